if FUZZERS
noinst_PROGRAMS += tests/fuzz/out_parser_fuzz
tests_fuzz_out_parser_fuzz_SOURCES = tests/fuzz/out_parser_fuzz.c
tests_fuzz_out_parser_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_out_parser_fuzz_LDADD = libtext.a $(lib_libs)
endif
