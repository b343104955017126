# Weights, read past the page cache.
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/read_test
TESTS += tests/unit/read_test
tests_unit_read_test_SOURCES = tests/unit/read_test.c tests/unit/unit.h
tests_unit_read_test_CFLAGS = $(unit_cflags)
tests_unit_read_test_LDADD = $(engine_libs) $(unit_libs)
endif
