# The memory broker: its judgement against a simulated box, and what the kernel says.
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/meminfo_test
TESTS += tests/unit/meminfo_test
tests_unit_meminfo_test_SOURCES = tests/unit/meminfo_test.c tests/unit/unit.h
tests_unit_meminfo_test_CFLAGS = $(unit_cflags)
tests_unit_meminfo_test_LDADD = $(unit_libs)
if SERVING
check_PROGRAMS += tests/unit/broker_test
TESTS += tests/unit/broker_test
tests_unit_broker_test_SOURCES = tests/unit/broker_test.c tests/unit/unit.h
tests_unit_broker_test_CFLAGS = $(unit_cflags)
tests_unit_broker_test_LDADD = libmemory.a $(unit_libs)
check_PROGRAMS += tests/unit/memory_test
TESTS += tests/unit/memory_test
tests_unit_memory_test_SOURCES = tests/unit/memory_test.c tests/unit/unit.h
tests_unit_memory_test_CPPFLAGS = $(libmemory_a_CPPFLAGS)
tests_unit_memory_test_CFLAGS = $(unit_cflags)
tests_unit_memory_test_LDADD = $(memory_libs) $(CMOCKA_LIBS)
endif
endif
