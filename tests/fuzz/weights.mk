if FUZZERS
noinst_PROGRAMS += tests/fuzz/safetensors_fuzz tests/fuzz/config_fuzz
tests_fuzz_safetensors_fuzz_SOURCES = tests/fuzz/safetensors_fuzz.c
tests_fuzz_safetensors_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_safetensors_fuzz_LDADD = $(weights_libs) $(lib_libs)
tests_fuzz_config_fuzz_SOURCES = tests/fuzz/config_fuzz.c
tests_fuzz_config_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_config_fuzz_LDADD = $(weights_libs) $(lib_libs)
endif
