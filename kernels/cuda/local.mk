# Compiled always where nvcc is found, for sm_90a, sm_120a and sm_121a; run only where a GPU is.
SUFFIXES = .cu
cuda_headers = kernels/cuda/attn_decode.h kernels/cuda/gdn_step.h kernels/cuda/rows.h
EXTRA_DIST += $(cuda_headers)

.cu.o:
	$(AM_V_GEN)$(MKDIR_P) $(@D) && $(NVCC) -I$(top_srcdir) -I$(top_builddir) $(NVCCFLAGS) -MD -MF $@.d -c -o $@ $<

if CUDA
noinst_LIBRARIES += libcudakernels.a
libcudakernels_a_SOURCES = \
	kernels/cuda/attn_decode.cu \
	kernels/cuda/gdn_step.cu \
	kernels/cuda/rows.cu
-include $(libcudakernels_a_OBJECTS:=.d)
CLEANFILES += kernels/cuda/*.o.d tests/gpu/*.o.d
endif
