/* step_args.h - products and choices as a decode step has them, for tests that care for when and how
 * often a kernel runs and less for what it computes: weights without NaN, and arguments.  All memory
 * is the caller's, on the device. */
#ifndef HEARTH_TESTS_GPU_STEP_ARGS_H
#define HEARTH_TESTS_GPU_STEP_ARGS_H

#include "kernels/cuda/route.h"
#include "tests/gpu/gpu_test.h"

#define STEP_EXPERTS 256u	/* and the shared one behind them */
#define STEP_SLOTS 9u		/* eight chosen, one shared */

/* A packed matrix: bits of any kind, but neither NaN nor infinite as `f` reads them. */
static inline void fill_weights(enum matmul_format f, std::vector<uint32_t> &w)
{
	for (auto &v : w) {
		const uint32_t bits = rng() << 16 ^ rng();

		v = f == MATMUL_BF16 ? (bits & 0x83ff83ff) | 0x3c003c00 : bits & 0xbfbfbfbf;
	}
}

/* Matrices of one shape, and a scale for each of their rows as packed: of e2m1 outputs near 1. */
struct packed {
	array<uint32_t> w;
	array<float> scale;

	packed(enum matmul_format f, uint32_t n_matrices, uint32_t n, uint32_t k)
		: w(n_matrices * matmul_packed_bytes(f, n, k) / 4), scale((size_t)n_matrices * ((n + 15) / 16 * 16))
	{
		fill_weights(f, w.h);
		w.up();
		for (float &s : scale.h)
			s = (0.5f + 0.4f * uniform()) / (float)k;
		scale.up();
	}
};

/* w: packed [n, k]; x: [rows][k]; y: [rows][n]. */
static inline decode_matmul_args product_args(enum matmul_format f, const void *w, uint32_t n, uint32_t k,
					      const void *x, float *y, uint32_t rows)
{
	decode_matmul_args a = {};

	a.w = w;
	a.x = x;
	a.y = y;
	a.n_rows = rows;
	a.n = a.ldy = n;
	a.k = a.ldx = k;
	a.format = f;
	return a;
}

/* Words of a choice for `rows` rows: ids, weights, and from the next multiple of 16 bytes the list. */
static inline size_t choice_words(uint32_t rows)
{
	return 2 * rows * STEP_SLOTS + 4 + expert_list_bytes(rows, STEP_SLOTS, STEP_EXPERTS + 1) / 4;
}

/* logits: [rows][STEP_EXPERTS + 1]; out: choice_words(). */
static inline route_args choice_args(const float *logits, uint32_t rows, uint32_t *out)
{
	const uint32_t ids = rows * STEP_SLOTS;
	route_args a = {};

	a.logits = logits;
	a.rows = rows;
	a.experts = STEP_EXPERTS;
	a.stride = STEP_EXPERTS + 1;
	a.top = STEP_SLOTS - 1;
	a.shared = 1;
	a.ids = out;
	a.weights = (float *)(out + ids);
	a.list = expert_list_at(out + (2 * ids + 3) / 4 * 4, rows, STEP_SLOTS, STEP_EXPERTS + 1);
	return a;
}

#endif
