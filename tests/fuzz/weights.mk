if FUZZERS
noinst_PROGRAMS += tests/fuzz/safetensors_fuzz tests/fuzz/config_fuzz
tests_fuzz_safetensors_fuzz_SOURCES = tests/fuzz/safetensors_fuzz.c
tests_fuzz_safetensors_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_safetensors_fuzz_LDADD = $(weights_libs) $(lib_libs)
tests_fuzz_config_fuzz_SOURCES = tests/fuzz/config_fuzz.c
tests_fuzz_config_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_config_fuzz_LDADD = $(weights_libs) $(lib_libs)
noinst_PROGRAMS += tests/fuzz/quant_config_fuzz
tests_fuzz_quant_config_fuzz_SOURCES = tests/fuzz/quant_config_fuzz.c
tests_fuzz_quant_config_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_quant_config_fuzz_LDADD = $(weights_libs) $(lib_libs)
endif
EXTRA_DIST += tests/fuzz/seeds/quant_config_fuzz/ct tests/fuzz/seeds/quant_config_fuzz/fp8 \
	tests/fuzz/seeds/quant_config_fuzz/modelopt
