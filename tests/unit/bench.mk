# What the measuring programs count.
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/step_bytes_test
TESTS += tests/unit/step_bytes_test
tests_unit_step_bytes_test_SOURCES = tests/unit/step_bytes_test.c tests/unit/unit.h \
	bench/step_bytes.c bench/step_bytes.h bench/step_model.c bench/step_model.h \
	worker/traffic.c worker/traffic.h tests/fake/random_model.c tests/fake/random_model.h
tests_unit_step_bytes_test_CFLAGS = $(unit_cflags)
tests_unit_step_bytes_test_LDADD = $(weights_libs) $(unit_libs) -lm
endif
TESTS += tests/box/step_bench.py
tests/box/step_bench.log: bin/hearth-bench
EXTRA_DIST += tests/box/step_bench.py
