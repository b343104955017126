# hearthctl's parts that take what comes from outside.
if HAVE_CMOCKA
if SERVING
check_PROGRAMS += tests/unit/pair_test
TESTS += tests/unit/pair_test
tests_unit_pair_test_SOURCES = tests/unit/pair_test.c ctl/pair_word.c ctl/pair.h tests/unit/unit.h
tests_unit_pair_test_CFLAGS = $(unit_cflags)
tests_unit_pair_test_CPPFLAGS = $(AM_CPPFLAGS) $(PROTOBUF_C_CFLAGS)
tests_unit_pair_test_LDADD = $(wire_libs) $(unit_libs)
endif
endif
