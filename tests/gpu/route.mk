# From a mixer's rows to experts, and products that choose, on a GPU.
EXTRA_DIST += tests/gpu/step_args.h
if CUDA
check_PROGRAMS += tests/gpu/route_test
TESTS += tests/gpu/route_test
tests_gpu_route_test_SOURCES = tests/gpu/route_test.cu
tests_gpu_route_test_LDADD = $(gpu_libs)
check_PROGRAMS += tests/gpu/settled_test
TESTS += tests/gpu/settled_test
tests_gpu_settled_test_SOURCES = tests/gpu/settled_test.cu
tests_gpu_settled_test_LDADD = $(gpu_libs)
check_PROGRAMS += tests/gpu/again_test
TESTS += tests/gpu/again_test
tests_gpu_again_test_SOURCES = tests/gpu/again_test.cu
tests_gpu_again_test_LDADD = $(gpu_libs)
check_PROGRAMS += tests/gpu/experts_sum_test
TESTS += tests/gpu/experts_sum_test
tests_gpu_experts_sum_test_SOURCES = tests/gpu/experts_sum_test.cu
tests_gpu_experts_sum_test_LDADD = $(gpu_libs)
check_PROGRAMS += tests/gpu/experts_row_test
TESTS += tests/gpu/experts_row_test
tests_gpu_experts_row_test_SOURCES = tests/gpu/experts_row_test.cu
tests_gpu_experts_row_test_LDADD = $(gpu_libs)
check_PROGRAMS += tests/gpu/mixer_end_test
TESTS += tests/gpu/mixer_end_test
tests_gpu_mixer_end_test_SOURCES = tests/gpu/mixer_end_test.cu
tests_gpu_mixer_end_test_LDADD = $(gpu_libs)
check_PROGRAMS += tests/gpu/residual_test
TESTS += tests/gpu/residual_test
tests_gpu_residual_test_SOURCES = tests/gpu/residual_test.cu
tests_gpu_residual_test_LDADD = $(gpu_libs)
check_PROGRAMS += tests/gpu/square_test
TESTS += tests/gpu/square_test
tests_gpu_square_test_SOURCES = tests/gpu/square_test.cu
tests_gpu_square_test_LDADD = $(gpu_libs)
endif
