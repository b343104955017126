# Each exits 77 without a GPU; on the device machine they are run by tests/gpu/run.sh.
EXTRA_DIST += tests/gpu/gpu_test.h
gpu_libs = libcudakernels.a $(CUDA_LIBS)

if CUDA
check_PROGRAMS += tests/gpu/attn_decode_test tests/gpu/gdn_step_test tests/gpu/rows_test
TESTS += tests/gpu/attn_decode_test tests/gpu/gdn_step_test tests/gpu/rows_test
tests_gpu_attn_decode_test_SOURCES = tests/gpu/attn_decode_test.cu
tests_gpu_attn_decode_test_LDADD = $(gpu_libs)
tests_gpu_gdn_step_test_SOURCES = tests/gpu/gdn_step_test.cu
tests_gpu_gdn_step_test_LDADD = $(gpu_libs)
tests_gpu_rows_test_SOURCES = tests/gpu/rows_test.cu
tests_gpu_rows_test_LDADD = $(gpu_libs)
endif
