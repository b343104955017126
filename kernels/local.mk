# The boundary and the CPU back end.  The hot loops are compiled once an instruction set;
# each path_*.c asks for its own, so the rest stays at the distribution's baseline.
noinst_LIBRARIES += libkernels.a
libkernels_a_SOURCES = \
	kernels/backend.h kernels/device.c kernels/measure.h kernels/step.h \
	kernels/e4m3.c kernels/e4m3.h kernels/option_words.c \
	kernels/model.c kernels/model.h kernels/noise.h \
	kernels/quantize.c kernels/quantize.h kernels/quantize_int.h kernels/quantize_stream.c \
	kernels/weight_stream.c kernels/weight_stream.h \
	kernels/cpu/cpu.h kernels/cpu/cpu_attn.c kernels/cpu/cpu_device.c kernels/cpu/cpu_digest.c \
	kernels/cpu/cpu_gdn.c kernels/cpu/cpu_kv.c kernels/cpu/cpu_load.c kernels/cpu/cpu_mlp.c \
	kernels/cpu/cpu_mtp.c kernels/cpu/cpu_pack.c \
	kernels/cpu/cpu_room.c kernels/cpu/cpu_scale.c kernels/cpu/cpu_step.c \
	kernels/cpu/dequant.c kernels/cpu/dequant.h \
	kernels/cpu/path.c kernels/cpu/path.h kernels/cpu/path_body.h kernels/cpu/path_base.c \
	kernels/cpu/path_avx2.c kernels/cpu/path_avx512.c \
	kernels/cpu/pool.c kernels/cpu/pool.h \
	kernels/cpu/ref.c kernels/cpu/ref.h \
	kernels/cpu/sample.c kernels/cpu/sample.h \
	kernels/cpu/slab.c kernels/cpu/slab.h
libkernels_a_SOURCES += kernels/cpu/cpu_measure.c \
	kernels/crc32c.c kernels/crc32c.h kernels/dummy.c kernels/dummy.h kernels/dummy_fill.c kernels/dummy_stream.c
libkernels_a_SOURCES += kernels/cpu/cpu_fp4.c kernels/fp4_row.c kernels/fp4_row.h
kernels_libs = libkernels.a
