# The CPU back end, and model folders.
check_PROGRAMS += tests/tools/logits_driver
tests_tools_logits_driver_SOURCES = tests/tools/logits_driver.c
tests_tools_logits_driver_LDADD = $(weights_libs) $(lib_libs)
tests_tools_logits_driver_LDFLAGS = $(AM_LDFLAGS) $(cuda_backend_ldflags)
if CUDA
tests_tools_logits_driver_LDADD += $(cuda_backend_libs)
endif

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/step_test
TESTS += tests/unit/step_test
tests_unit_step_test_SOURCES = tests/unit/step_test.c tests/unit/unit.h \
	tests/fake/random_model.c tests/fake/random_model.h
tests_unit_step_test_CFLAGS = $(unit_cflags)
tests_unit_step_test_LDADD = $(kernels_libs) $(unit_libs)

check_PROGRAMS += tests/unit/cpu_ops_test
TESTS += tests/unit/cpu_ops_test
tests_unit_cpu_ops_test_SOURCES = tests/unit/cpu_ops_test.c tests/unit/unit.h
tests_unit_cpu_ops_test_CFLAGS = $(unit_cflags)
tests_unit_cpu_ops_test_LDADD = $(kernels_libs) $(unit_libs)

check_PROGRAMS += tests/unit/weights_test
TESTS += tests/unit/weights_test
tests_unit_weights_test_SOURCES = tests/unit/weights_test.c tests/unit/unit.h
tests_unit_weights_test_CFLAGS = $(unit_cflags)
tests_unit_weights_test_LDADD = $(weights_libs) $(unit_libs)
endif
EXTRA_DIST += tests/golden/compare_logits.py tests/golden/compare_mtp.py \
	tests/golden/make_random_model.py
