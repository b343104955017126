# libFuzzer programs: configure with CC=clang --enable-fuzzers, or run tests/fuzz/run.sh.
# Each is one LLVMFuzzerTestOneInput; a crash input becomes a claim in tests/unit.
EXTRA_DIST += tests/fuzz/run.sh tests/fuzz/seeds/http_fuzz tests/fuzz/seeds/openai_request_fuzz \
	tests/fuzz/seeds/cloud_fuzz tests/fuzz/seeds/conf_fuzz tests/fuzz/seeds/config_fuzz \
	tests/fuzz/seeds/gen_config_fuzz tests/fuzz/seeds/safetensors_fuzz tests/fuzz/seeds/json_fuzz \
	tests/fuzz/seeds/wire_fuzz tests/fuzz/make_seeds.py
fuzz_flags = $(AM_CFLAGS) -fsanitize=fuzzer

if FUZZERS
noinst_PROGRAMS += tests/fuzz/json_fuzz
tests_fuzz_json_fuzz_SOURCES = tests/fuzz/json_fuzz.c
tests_fuzz_json_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_json_fuzz_LDADD = $(lib_libs)

if SERVING
noinst_PROGRAMS += tests/fuzz/wire_fuzz
tests_fuzz_wire_fuzz_SOURCES = tests/fuzz/wire_fuzz.c
tests_fuzz_wire_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_wire_fuzz_LDADD = $(wire_libs) $(lib_libs)
endif
endif

include tests/fuzz/engine.mk
include tests/fuzz/weights.mk
include tests/fuzz/tokenizer.mk
include tests/fuzz/parser.mk
include tests/fuzz/template.mk
