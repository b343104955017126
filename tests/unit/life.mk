if HAVE_CMOCKA
if SERVING
check_PROGRAMS += tests/unit/launcher_test tests/unit/box_message_test
TESTS += tests/unit/launcher_test tests/unit/box_message_test
check_PROGRAMS += tests/unit/estimate_test
TESTS += tests/unit/estimate_test
tests_unit_estimate_test_SOURCES = tests/unit/estimate_test.c tests/unit/unit.h
tests_unit_estimate_test_CFLAGS = $(unit_cflags)
tests_unit_estimate_test_LDADD = $(life_libs) $(unit_libs)
tests_unit_launcher_test_SOURCES = tests/unit/launcher_test.c tests/unit/unit.h
tests_unit_launcher_test_CFLAGS = $(unit_cflags)
tests_unit_launcher_test_LDADD = liblife.a $(unit_libs)
tests_unit_box_message_test_SOURCES = tests/unit/box_message_test.c tests/unit/unit.h
tests_unit_box_message_test_CFLAGS = $(unit_cflags)
tests_unit_box_message_test_LDADD = $(wire_libs) $(unit_libs)
endif
endif
