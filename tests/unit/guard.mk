# A device that hangs, is lost, or gives no numbers.
if SERVING
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/guard_test
TESTS += tests/unit/guard_test
tests_unit_guard_test_SOURCES = tests/unit/guard_test.c tests/unit/unit.h
tests_unit_guard_test_CFLAGS = $(unit_cflags)
tests_unit_guard_test_LDADD = libserve.a $(engine_test_libs)
endif

# The worker as it is, on the fake device: it is never installed.
check_PROGRAMS += tests/tools/faulty_worker
tests_tools_faulty_worker_SOURCES = tests/tools/faulty_worker.c
tests_tools_faulty_worker_LDADD = libserve.a libengine.a libfake.a $(serve_libs) $(lib_libs)
TESTS += tests/box/guard.py
tests/box/guard.log: tests/tools/faulty_worker bin/hearthctl bin/hearth-router bin/hearthd tests/box/mock_worker
endif
EXTRA_DIST += tests/box/guard.py
