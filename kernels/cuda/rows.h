/* rows.h - the row-wise operations of a decode step between its matrices (docs/numerics.md 2):
 * norm, rotation and KV append.
 *
 * Every row is computed by itself, in one order, whatever the number of rows.  Plain C; device
 * pointers, borrowed until the stream has passed the call; enqueues on `stream` (a cudaStream_t),
 * waits for nothing.  Each answers 0, -EINVAL (a shape not taken: nothing enqueued) or -ENODEV.
 */
#ifndef HEARTH_KERNELS_CUDA_ROWS_H
#define HEARTH_KERNELS_CUDA_ROWS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/step.h"

/* out = bf16((x r) (1 + w)), r = rsqrt(mean(x^2) + eps), over `width` (a multiple of 8). */
struct rms_norm_args {
	const void *x;		/* bf16 [rows][width] */
	const void *w;		/* bf16 [width], zero-centred */
	void *out;		/* bf16 [rows][width]; may be x */
	uint32_t rows, width;
	float eps;
};
int rms_norm(const struct rms_norm_args *a, void *stream);

/* From the projection of an attention layer: per head norm (1 + w) and rotation of q and k in f32,
 * one rounding; k and v go into the paged cache, q and gate are laid out for attn_decode().
 * head_dim 256. */
struct qk_row {
	uint32_t position[3];	/* of the three axes; text has the same in all */
	uint32_t block;		/* the KV block that holds the row's place in the sequence */
	uint32_t offset;	/* 0..63 in it */
};

struct qk_rope_args {
	const struct qk_row *rows;	/* [n_rows] */
	uint32_t n_rows, q_heads, kv_heads;
	uint32_t ld;		/* elements between rows of qg, k and v */
	const void *qg;		/* bf16 [n_rows][ld], q_heads 512 each: query 256, gate 256 */
	const void *k, *v;	/* bf16 [n_rows][ld], kv_heads 256 each */
	const void *q_norm, *k_norm;	/* bf16 [256], zero-centred */
	const void *cos, *sin;	/* bf16 [max_positions][rotary / 2] */
	uint32_t rotary;	/* dims rotated, pairs (j, j + rotary / 2); <= 256 */
	/* frequencies of the height and width axes, interleaved T H W */
	uint32_t section_h, section_w;
	float eps;
	void *q, *gate;		/* out bf16 [n_rows][q_heads][256] */
	void *k_cache, *v_cache;	/* [n_blocks][kv_heads] of attn_head_bytes(kv), attn_decode.h */
	enum kv_format kv;
};
int qk_rope(const struct qk_rope_args *a, void *stream);

#ifdef __cplusplus
}
#endif

#endif
