/* loader.h - puts the matrices of a checkpoint where the kernels read them: the inside of weights.h.
 *
 * A loader goes twice over the same calls: without a slab it adds up sizes and lists the pieces that it will want in the
 * order in which it will; with one it takes them from the source's stream (weight_stream.h) and fills. */
#ifndef HEARTH_KERNELS_CUDA_LOADER_H
#define HEARTH_KERNELS_CUDA_LOADER_H

#include <vector>

#include "kernels/cuda/weights.h"
#include "kernels/weight_stream.h"

/* How a matrix lies in device memory. */
enum layout {
	LAYOUT_ROWS,	/* row-major bf16 */
	LAYOUT_PACKED,
	LAYOUT_TURNS,	/* packed, the second half of the rows mixed with the first in turns of eight */
};

/* One piece of a stacked matrix. */
struct part {
	enum weight_slot slot;
	uint32_t expert, rows;
};

struct loader {
	const struct weight_source *source;
	device_progress *progress;
	void *ctx;
	struct err *e;

	char *slab;		/* NULL: sizes only */
	size_t used;
	std::vector<weight_piece> pieces;	/* listed by the first walk, given to the second */
	struct weight_room room;		/* pinned */
	struct weight_stream *in;
	char *staging;		/* device */
	uint32_t *bad;		/* device: the least index into `packed` of a matrix with a NaN */
	std::vector<std::vector<weight_ref>> packed;
	uint64_t done, total;
	uint32_t expanded;
};

/* Memory for staging, the stream of k->pieces, the flag; loader_end() gives them back and says which tensor has a NaN,
 * if one has. */
int loader_begin(struct loader *k);
int loader_end(struct loader *k, int rc);

/* The source's answer; rows x cols is what it must be, of a vector (cols 1) any shape of so many elements. */
int loader_find(struct loader *k, enum weight_slot slot, uint32_t layer, uint32_t expert, uint32_t rows, uint32_t cols,
		struct weight_ref *ret);

/* In which format a matrix that stands for itself is kept. */
enum matmul_format loader_format(const struct weight_ref *r);

/* A vector (or the small convolution matrix) as bf16 or float32. */
int put_vector(struct loader *k, enum weight_slot slot, uint32_t layer, uint32_t n, bool wide,
	       void **ret);
int put_rows(struct loader *k, enum weight_slot slot, uint32_t rows, uint32_t cols, void **ret);
int put_matrix(struct loader *k, uint32_t layer, const std::vector<part> &parts, uint32_t cols, enum layout l,
	       struct matrix *ret);
/* Neighbours of one format become one matrix. */
int put_stack(struct loader *k, uint32_t layer, const std::vector<part> &parts, uint32_t cols, struct stack *ret);
/* One matrix for each of n experts; then `shared`, if there is one, which has the experts' format. */
int put_experts(struct loader *k, uint32_t layer, uint32_t n, const std::vector<part> &parts,
		const std::vector<part> *shared, uint32_t cols, enum layout l, struct matrix *ret);

#endif
