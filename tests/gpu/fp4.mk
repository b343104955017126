# The FP4 product of prompts on a GPU, and what is in its object code.
EXTRA_DIST += tests/gpu/fp4_code.py
if CUDA
check_PROGRAMS += tests/gpu/prefill_fp4_test
TESTS += tests/gpu/prefill_fp4_test tests/gpu/fp4_code.py
tests_gpu_prefill_fp4_test_SOURCES = tests/gpu/prefill_fp4_test.cu kernels/cpu/ref_matmul.c \
	kernels/cpu/ref_matmul.h
tests_gpu_prefill_fp4_test_LDADD = $(gpu_libs) -lm
endif
