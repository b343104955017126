# The FP4 product of prompts: what of it needs no GPU.
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/fp4_test
TESTS += tests/unit/fp4_test
tests_unit_fp4_test_SOURCES = tests/unit/fp4_test.c tests/unit/unit.h kernels/cuda/pack.c \
	kernels/cpu/ref_matmul.c kernels/cpu/ref_matmul.h
tests_unit_fp4_test_CFLAGS = $(unit_cflags)
tests_unit_fp4_test_LDADD = $(kernels_libs) $(unit_libs) -lm
endif
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/fp4_prefill_test
TESTS += tests/unit/fp4_prefill_test
tests_unit_fp4_prefill_test_SOURCES = tests/unit/fp4_prefill_test.c tests/unit/unit.h \
	tests/unit/quant_model.c tests/unit/quant_model.h \
	tests/fake/random_model.c tests/fake/random_model.h
tests_unit_fp4_prefill_test_CFLAGS = $(unit_cflags)
tests_unit_fp4_prefill_test_LDADD = $(kernels_libs) $(unit_libs) -lm
endif
