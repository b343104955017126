# Each exits 77 without a GPU; on a rented one they are run by tests/gpu/session.sh.
EXTRA_DIST += tests/gpu/README.md tests/gpu/pack.sh tests/gpu/session.sh
EXTRA_DIST += tests/unit/loader_test.cu tests/unit/fake_cudart.c tests/unit/kv_codes_test.cu tests/gpu/gpu_test.h \
	tests/gpu/device_cases.h tests/gpu/kv_reference.h tests/gpu/matmul_cases.h tests/gpu/reference_model.h
gpu_libs = libcudakernels.a libkernels.a liblib.a $(CUDA_LIBS)

if CUDA
gpu_tests = tests/gpu/attn_decode_test tests/gpu/attn_prefill_test tests/gpu/decode_experts_test \
	tests/gpu/decode_matmul_test tests/gpu/device_results_test tests/gpu/device_test \
	tests/gpu/gdn_prefill_test tests/gpu/gdn_step_test tests/gpu/prefill_matmul_test tests/gpu/rows_test tests/gpu/sample_test
check_PROGRAMS += $(gpu_tests)
TESTS += $(gpu_tests)
tests_gpu_attn_decode_test_SOURCES = tests/gpu/attn_decode_test.cu
tests_gpu_attn_decode_test_LDADD = $(gpu_libs) $(XXHASH_LIBS)
tests_gpu_decode_experts_test_SOURCES = tests/gpu/decode_experts_test.cu kernels/cpu/ref_matmul.c \
	kernels/cpu/ref_matmul.h
tests_gpu_decode_experts_test_LDADD = $(gpu_libs) -lm
tests_gpu_decode_matmul_test_SOURCES = tests/gpu/decode_matmul_test.cu kernels/cpu/ref_matmul.c \
	kernels/cpu/ref_matmul.h
tests_gpu_decode_matmul_test_LDADD = $(gpu_libs) -lm
tests_gpu_device_results_test_SOURCES = tests/gpu/device_results_test.cu
tests_gpu_device_results_test_LDADD = $(gpu_libs)
tests_gpu_device_test_SOURCES = tests/gpu/device_test.cu
tests_gpu_device_test_LDADD = $(gpu_libs)
tests_gpu_gdn_prefill_test_SOURCES = tests/gpu/gdn_prefill_test.cu
tests_gpu_gdn_prefill_test_LDADD = $(gpu_libs)
tests_gpu_gdn_step_test_SOURCES = tests/gpu/gdn_step_test.cu
tests_gpu_gdn_step_test_LDADD = $(gpu_libs)
tests_gpu_prefill_matmul_test_SOURCES = tests/gpu/prefill_matmul_test.cu kernels/cpu/ref_matmul.c \
	kernels/cpu/ref_matmul.h
tests_gpu_prefill_matmul_test_LDADD = $(gpu_libs)
tests_gpu_rows_test_SOURCES = tests/gpu/rows_test.cu
tests_gpu_rows_test_LDADD = $(gpu_libs)
tests_gpu_sample_test_SOURCES = tests/gpu/sample_test.cu kernels/cpu/sample.c kernels/cpu/sample.h
tests_gpu_sample_test_LDADD = $(gpu_libs) -lm
# The loader on a device that is this process: needs nvcc, and no GPU.
check_PROGRAMS += tests/unit/loader_test
TESTS += tests/unit/loader_test
tests_unit_loader_test_SOURCES = tests/unit/loader_test.cu tests/unit/fake_cudart.c
tests_unit_loader_test_LDADD = libcudakernels.a libkernels.a liblib.a -lstdc++ -lpthread -lm
# The arithmetic of an FP8 cache that host and device share: likewise.
check_PROGRAMS += tests/unit/kv_codes_test
TESTS += tests/unit/kv_codes_test
tests_unit_kv_codes_test_SOURCES = tests/unit/kv_codes_test.cu
tests_unit_kv_codes_test_LDADD = $(gpu_libs) -lm
# A kernel's logic on blocks that are fibers: needs CUDA's headers, and no GPU.
EXTRA_DIST += tests/emu/kernels/cuda/async.cuh tests/emu/kernels/cuda/bulk.cuh tests/emu/kernels/cuda/launch.cuh \
	tests/emu/kernels/cuda/mma.cuh tests/emu/memory.h tests/emu/stacked.h
check_PROGRAMS += tests/emu/experts_row_emu_test tests/emu/gdn_step_emu_test tests/emu/mixer_end_emu_test
TESTS += tests/emu/experts_row_emu_test tests/emu/gdn_step_emu_test tests/emu/mixer_end_emu_test
emu_cppflags = -iquote $(srcdir)/tests/emu $(AM_CPPFLAGS) -I$(CUDA_HOME)/include
emu_cxxflags = $(CXXFLAGS) -std=c++17 -ffp-contract=off -Wall -Wno-unknown-pragmas -Wno-unused-function \
	-Wno-maybe-uninitialized -fno-strict-aliasing
tests_emu_experts_row_emu_test_SOURCES = tests/emu/experts_row_emu_test.cc tests/emu/block.cc tests/emu/block.h \
	kernels/cuda/pack.c kernels/cpu/ref_matmul.c kernels/cpu/ref_matmul.h
tests_emu_experts_row_emu_test_CPPFLAGS = $(emu_cppflags)
tests_emu_experts_row_emu_test_CXXFLAGS = $(emu_cxxflags)
tests_emu_experts_row_emu_test_LDADD = -lm
tests_emu_gdn_step_emu_test_SOURCES = tests/emu/gdn_step_emu_test.cc tests/emu/block.cc tests/emu/block.h
tests_emu_gdn_step_emu_test_CPPFLAGS = $(emu_cppflags)
tests_emu_gdn_step_emu_test_CXXFLAGS = $(emu_cxxflags)
tests_emu_gdn_step_emu_test_LDADD = -lm
tests_emu_mixer_end_emu_test_SOURCES = tests/emu/mixer_end_emu_test.cc tests/emu/block.cc tests/emu/block.h \
	kernels/cuda/pack.c kernels/cpu/ref_matmul.c kernels/cpu/ref_matmul.h
tests_emu_mixer_end_emu_test_CPPFLAGS = $(emu_cppflags)
tests_emu_mixer_end_emu_test_CXXFLAGS = $(emu_cxxflags)
tests_emu_mixer_end_emu_test_LDADD = -lm
# Measure; not tests.
EXTRA_DIST += bench/cuda/given_list.h bench/cuda/replay.cuh
check_PROGRAMS += bench/cuda/decode_matmul_probe
bench_cuda_decode_matmul_probe_SOURCES = bench/cuda/decode_matmul_probe.cu
bench_cuda_decode_matmul_probe_LDADD = $(gpu_libs)
check_PROGRAMS += bench/cuda/decode_forms
bench_cuda_decode_forms_SOURCES = bench/cuda/decode_forms.cu
bench_cuda_decode_forms_LDADD = $(gpu_libs)
tests_gpu_attn_prefill_test_SOURCES = tests/gpu/attn_prefill_test.cu
tests_gpu_attn_prefill_test_LDADD = $(gpu_libs)
endif
