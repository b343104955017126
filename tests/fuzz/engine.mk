if FUZZERS
noinst_PROGRAMS += tests/fuzz/generation_fuzz
tests_fuzz_generation_fuzz_SOURCES = tests/fuzz/generation_fuzz.c
tests_fuzz_generation_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_generation_fuzz_LDADD = $(engine_libs) $(lib_libs)

noinst_PROGRAMS += tests/fuzz/gen_config_fuzz
tests_fuzz_gen_config_fuzz_SOURCES = tests/fuzz/gen_config_fuzz.c
tests_fuzz_gen_config_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_gen_config_fuzz_LDADD = $(engine_libs) $(lib_libs)
endif
