# The FP4 product of prompts: what of it needs no GPU.
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/fp4_test
TESTS += tests/unit/fp4_test
tests_unit_fp4_test_SOURCES = tests/unit/fp4_test.c tests/unit/unit.h kernels/cuda/pack.c \
	kernels/cpu/ref_matmul.c kernels/cpu/ref_matmul.h
tests_unit_fp4_test_CFLAGS = $(unit_cflags)
tests_unit_fp4_test_LDADD = $(kernels_libs) $(unit_libs) -lm
endif
