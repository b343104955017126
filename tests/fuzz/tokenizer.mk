if FUZZERS
noinst_PROGRAMS += tests/fuzz/tokenizer_fuzz
tests_fuzz_tokenizer_fuzz_SOURCES = tests/fuzz/tokenizer_fuzz.c
tests_fuzz_tokenizer_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_tokenizer_fuzz_LDADD = libtext.a $(lib_libs)

noinst_PROGRAMS += tests/fuzz/encode_fuzz
tests_fuzz_encode_fuzz_SOURCES = tests/fuzz/encode_fuzz.c
tests_fuzz_encode_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_encode_fuzz_LDADD = libtext.a $(lib_libs)
endif
EXTRA_DIST += tests/fuzz/seeds/tokenizer_fuzz/good.json
