# Model folders: config.json, safetensors, all spellings of the tensor names.
noinst_LIBRARIES += libweights.a
libweights_a_SOURCES = \
	worker/weights/checkpoint.c worker/weights/checkpoint.h \
	worker/weights/checkpoint_note.c \
	worker/weights/hf_config.c worker/weights/hf_config.h \
	worker/weights/hf_dir.c worker/weights/hf_dir.h \
	worker/weights/module.c worker/weights/module.h \
	worker/weights/piece_stream.c worker/weights/piece_stream.h \
	worker/weights/quant_config.c worker/weights/quant_config.h \
	worker/weights/read_file.c worker/weights/read_file.h \
	worker/weights/reader.c worker/weights/reader.h \
	worker/weights/reader_threads.c worker/weights/reader_uring.c \
	worker/weights/scan.c worker/weights/scan.h \
	worker/weights/tensor_set.c worker/weights/tensor_set.h \
	worker/weights/safetensors.c worker/weights/safetensors.h
libweights_a_CPPFLAGS = $(AM_CPPFLAGS) $(LIBURING_CFLAGS)
weights_libs = libweights.a libkernels.a $(LIBURING_LIBS)
