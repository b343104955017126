/* residual.h - the residual stream of a step: rows of the embedding in, sums of mixers and
 * feed-forwards added, each with the norm that follows (docs/numerics.md 2).
 *
 * Every row is computed by itself, in one order, whatever the number of rows.  Plain C; device
 * pointers, borrowed until the stream has passed the call; enqueues on `stream` (a cudaStream_t),
 * waits for nothing.  Each answers 0, -EINVAL (a shape not taken: nothing enqueued) or -ENODEV.
 */
#ifndef HEARTH_KERNELS_CUDA_RESIDUAL_H
#define HEARTH_KERNELS_CUDA_RESIDUAL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RESIDUAL_MAX_WIDTH 16384

/* x[r] = embed[token], the token given or the last sample of a slot; h[r] = its norm. */
struct embed_row {
	uint32_t token;		/* counts when slot is EMBED_TOKEN */
	uint32_t slot;		/* whose last sample to take */
};
#define EMBED_TOKEN 0xffffffffu

struct embed_rows_args {
	const struct embed_row *rows;	/* [n_rows] */
	const uint32_t *last_sample;	/* [slots] */
	const void *embed;		/* bf16 [vocab][width] */
	const void *norm;		/* bf16 [width], zero-centred */
	void *x, *h;			/* out bf16 [n_rows][width] */
	/* width a multiple of 8; an id beyond vocab reads row 0: nothing is wild */
	uint32_t n_rows, width, vocab;
	float eps;
	int ordered;	/* h in prefill order (prefill_matmul.h); width a multiple of 32 then */
};
int embed_rows(const struct embed_rows_args *a, void *stream);

/* x = bf16(x + sum), h = norm(x).  The sum is y, or over expert slots in order (the shared expert
 * is the last): fma(w[s], y[s], ...) starting from the product of slot 0. */
struct residual_add_args {
	void *x;		/* bf16 [rows][width], in and out */
	void *h;		/* out bf16 [rows][width] */
	const void *norm;	/* bf16 [width], zero-centred: of the operation that follows */
	const void *y;		/* [rows][slots][width] float32, or bfloat16 when y_bf16 */
	int y_bf16;
	const float *weight;	/* [rows][slots]; NULL: slots is 1 and y is added as it is */
	uint32_t rows, width, slots;	/* width a multiple of 8 */
	float eps;
	int ordered;		/* as above */
	uint32_t *clear;	/* n_clear words that are set to 0 on the way, for a kernel that comes later */
	uint32_t n_clear;	/* a multiple of 4, clear 16-byte aligned; 0: none */
};
int residual_add(const struct residual_add_args *a, void *stream);

/* out[i] = from[index[i]], rows of `width` bf16, a multiple of 8; ordered: into prefill order, width a
 * multiple of 32 then. */
int gather_rows(const void *from, const uint32_t *index, uint32_t n, uint32_t width, int ordered, void *out,
		void *stream);

#ifdef __cplusplus
}
#endif

#endif
