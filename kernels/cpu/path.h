/* path.h - the hot loops of the CPU back end, once for each instruction set.
 *
 * path_body.h holds the loops, written with GCC's vector extensions over 16 lanes;
 * path_base.c, path_avx2.c and path_avx512.c compile it.  All give the same bits: the same
 * lanes, product then sum, no contraction, own exp.  So the path is speed, not numerics.
 *
 * Everything is float32.  `round`: results go to the nearest bfloat16 (docs/numerics.md).
 * Widths are multiples of 16 unless a comment says otherwise.
 */
#ifndef HEARTH_KERNELS_CPU_PATH_H
#define HEARTH_KERNELS_CPU_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LANES 16

/* A matrix as the loops read it: groups of 16 output rows, the rows of a group side by side.
 * bf16: two neighbours in K share a word (the even one in the low half);
 * f32: a float each.  Rows are padded to the group with zeros.
 *
 * A quantised matrix keeps its operands here (dequant.h) and what they lack in `factor`:
 * one for each row, padded as the rows; or, when block_cols is not 0 (then it is even), one for
 * each block of K of each group: [groups][ceil(cols / block_cols)].  The loops know nothing of
 * either; cpu_matmul_groups() does. */
struct mat {
	uint32_t rows, cols, groups;
	bool f32;
	void *data;
	float *factor;		/* NULL: 1 */
	uint32_t block_cols;
	bool fp4;		/* prompt rows are rounded before they meet it (cpu_fp4.c) */
};

struct cpu_path {
	const char *name;
	/* out[r][16 g0 .. 16 g1) = W x[r]; sums in the order of K, from zero. */
	void (*matmul)(const struct mat *w, uint32_t g0, uint32_t g1, const float *x, size_t ldx,
		       uint32_t n_rows, float *out, size_t ldo);
	/* c[m][n] += a[m][k] b[k][n], sums in the order of k. */
	void (*gemm)(uint32_t m, uint32_t n, uint32_t k, const float *a, size_t lda, const float *b,
		     size_t ldb, float *c, size_t ldc);
	/* out = x / sqrt(mean(x^2) + eps) * w; w has its 1 added already. */
	void (*norm)(const float *x, const float *w, uint32_t n, float eps, bool round, float *out);
	/* x = x / sqrt(sum(x^2) + 1e-6) * scale */
	void (*l2norm)(float *x, uint32_t n, float scale);
	/* out = (o / sqrt(mean(o^2) + eps) * w) * silu(z) */
	void (*gated_norm)(const float *o, const float *w, const float *z, uint32_t n, float eps,
			   bool round, float *out);
	void (*silu_mul)(const float *gate, const float *up, uint32_t n, bool round, float *out);
	void (*sigmoid_mul)(const float *o, const float *gate, uint32_t n, bool round, float *out);
	void (*add)(float *x, const float *y, uint32_t n, bool round);	/* x = x + y */
	void (*axpy)(float *x, float a, const float *y, uint32_t n);	/* x = x + a y */
	void (*scale)(float *x, float a, uint32_t n);
	void (*round)(float *x, uint32_t n);
	void (*widen)(const uint16_t *from, size_t n, float *to);
	/* One block of 64 scores of one query: s = exp(s scale - max) for first <= j < valid, else
	 * 0. m, l: running maximum and sum; *ret_corr is what the sum so far was multiplied by. */
	void (*softmax64)(float *s, uint32_t first, uint32_t valid, float scale, bool round,
			  float *m, float *l, float *ret_corr);
	/* out[c] = silu(sum_j w[j][c] u[j][c]), u: `taps` pointers to rows */
	void (*conv)(const float *const *u, const float *w, size_t ldw, uint32_t taps, uint32_t n,
		     bool round, float *out);
	/* One token of the delta rule: S[dim][dim], decay = exp(g). */
	void (*gdn_step)(float *s, uint32_t dim, const float *q, const float *k, const float *v,
			 float decay, float beta, float *out);
	/* x[r] -= sum_{c<r} a[r][c] x[c], r ascending: forward substitution. */
	void (*solve)(uint32_t n_rows, const float *a, size_t lda, float *x, size_t ldx,
		      uint32_t n);
};

/* The best path of this machine, or the one named (NULL when it cannot run here). */
const struct cpu_path *cpu_path_best(void);
const struct cpu_path *cpu_path_named(const char *name);

extern const struct cpu_path cpu_path_base;
#ifdef __x86_64__
extern const struct cpu_path cpu_path_avx2, cpu_path_avx512;
#endif

/* To the nearest bfloat16, ties to even; NaN stays NaN. */
static inline float round_bf16(float x)
{
	union {
		float f;
		uint32_t u;
	} v = { .f = x };

	if (x != x)
		return x;
	v.u = (v.u + 0x7fffu + (v.u >> 16 & 1)) & 0xffff0000u;
	return v.f;
}

static inline uint16_t bf16_bits(float x)
{
	union {
		float f;
		uint32_t u;
	} v = { .f = round_bf16(x) };

	return (uint16_t)(v.u >> 16 | (x != x ? 0x40u : 0u));
}

#endif
