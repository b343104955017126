# Compiled always where nvcc is found, for sm_90a, sm_120a and sm_121a; run only where a GPU is.
SUFFIXES = .cu
cuda_headers = kernels/cuda/attn_decode.h kernels/cuda/gdn_step.h kernels/cuda/rows.h \
	kernels/cuda/decode_matmul.h kernels/cuda/decode_matmul_int.cuh kernels/cuda/decode_narrow.cuh \
	kernels/cuda/decode_wide.cuh kernels/cuda/fragment.cuh kernels/cuda/pack.h
EXTRA_DIST += $(cuda_headers)

.cu.o:
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(NVCC) -I$(top_srcdir) -I$(top_builddir) $(NVCCFLAGS) -MD -MF $@.d -c -o $@ $<

if CUDA
noinst_LIBRARIES += libcudakernels.a
libcudakernels_a_SOURCES = \
	kernels/cuda/attn_decode.cu \
	kernels/cuda/decode_matmul.cu \
	kernels/cuda/decode_wide.cu \
	kernels/cuda/expert_list.cu \
	kernels/cuda/gdn_step.cu \
	kernels/cuda/pack.c \
	kernels/cuda/rows.cu
-include $(libcudakernels_a_OBJECTS:=.d)
CLEANFILES += kernels/cuda/*.o.d tests/gpu/*.o.d
endif
