# Model folders: config.json, safetensors, all spellings of the tensor names.
noinst_LIBRARIES += libweights.a
libweights_a_SOURCES = \
	worker/weights/checkpoint.c worker/weights/checkpoint.h \
	worker/weights/checkpoint_note.c \
	worker/weights/hf_config.c worker/weights/hf_config.h \
	worker/weights/hf_dir.c worker/weights/hf_dir.h \
	worker/weights/module.c worker/weights/module.h \
	worker/weights/quant_config.c worker/weights/quant_config.h \
	worker/weights/scan.c worker/weights/scan.h \
	worker/weights/tensor_set.c worker/weights/tensor_set.h \
	worker/weights/safetensors.c worker/weights/safetensors.h
weights_libs = libweights.a libkernels.a
