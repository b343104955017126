EXTRA_DIST += tests/fuzz/seeds/template_fuzz
if FUZZERS
noinst_PROGRAMS += tests/fuzz/template_fuzz
tests_fuzz_template_fuzz_SOURCES = tests/fuzz/template_fuzz.c
tests_fuzz_template_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_template_fuzz_LDADD = libtext.a $(lib_libs)
endif
