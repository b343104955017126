if FUZZERS
if SERVING
noinst_PROGRAMS += tests/fuzz/pair_fuzz
tests_fuzz_pair_fuzz_SOURCES = tests/fuzz/pair_fuzz.c ctl/pair_word.c ctl/pair.h
tests_fuzz_pair_fuzz_CPPFLAGS = $(libproto_a_CPPFLAGS)
tests_fuzz_pair_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_pair_fuzz_LDADD = $(wire_libs) $(lib_libs)
endif
endif
EXTRA_DIST += tests/fuzz/seeds/pair_fuzz
