/* quant_folder.h - a model folder written from a quant_model, in the names that exporters use. */
#ifndef HEARTH_TESTS_QUANT_FOLDER_H
#define HEARTH_TESTS_QUANT_FOLDER_H

#include "tests/unit/quant_model.h"

struct file_tensor {
	char name[160];
	char dtype[12];
	uint32_t n_dims, dim[3];
	const void *data;
	size_t bytes;
};

/* All tensors of a model; NVFP4 in compressed-tensors' convention in even layers, in ModelOpt's in
 * odd ones. */
struct folder {
	struct file_tensor t[4096];
	uint32_t n;
	float scalars[1024];	/* what global factors point to */
	uint32_t n_scalars;
};

void folder_fill(struct folder *f, struct quant_model *m);
void folder_add(struct folder *f, const char *name, const char *dtype, uint32_t rows, uint32_t cols,
		const void *data, size_t bytes);
/* config.json, model.safetensors, and the mtp tensors in mtp.safetensors.  `extra` goes into the
 * config behind the last field. */
void folder_write(const struct folder *f, const struct quant_model *m, const char *dir,
		  const char *extra);

#endif
