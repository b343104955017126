if FUZZERS
if SERVING
noinst_PROGRAMS += tests/fuzz/box_fuzz
tests_fuzz_box_fuzz_SOURCES = tests/fuzz/box_fuzz.c
tests_fuzz_box_fuzz_CPPFLAGS = $(libboxproto_a_CPPFLAGS)
tests_fuzz_box_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_box_fuzz_LDADD = $(box_libs) $(lib_libs)

noinst_PROGRAMS += tests/fuzz/scrape_fuzz
tests_fuzz_scrape_fuzz_SOURCES = tests/fuzz/scrape_fuzz.c
tests_fuzz_scrape_fuzz_CPPFLAGS = $(liblife_a_CPPFLAGS)
tests_fuzz_scrape_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_scrape_fuzz_LDADD = $(life_libs)
endif
endif
EXTRA_DIST += tests/fuzz/seeds/scrape_fuzz
