# Matrices that become FP8 while they are loaded.
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/quantize_test
TESTS += tests/unit/quantize_test
tests_unit_quantize_test_SOURCES = tests/unit/quantize_test.c tests/unit/unit.h \
	kernels/cpu/ref_matmul.c kernels/cpu/ref_matmul.h \
	tests/fake/random_model.c tests/fake/random_model.h
tests_unit_quantize_test_CFLAGS = $(unit_cflags)
tests_unit_quantize_test_LDADD = $(kernels_libs) $(unit_libs) -lm
endif
