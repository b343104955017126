/* decode_matmul.h - y = x W^T for a few rows: the matrix kernels of decode.
 *
 * Plain C: no CUDA name crosses this line.  Every call enqueues on `stream` (a
 * cudaStream_t as void *; NULL is the default stream), waits for nothing and
 * allocates nothing, so that it can be captured in a graph.
 *
 * One family serves 1..MATMUL_MAX_ROWS rows.  The bits of a row of y are a function of that
 * row of x and of W alone (docs/numerics.md): K is cut into slices of
 * MATMUL_SLICE columns; inside a slice the tensor core adds 16 columns at a time, in
 * order, starting from zero; the slices' sums are added in order in float32.  Which
 * warp, block or kernel computes a slice is a matter of speed, chosen by the number of
 * rows, and changes no bit: decode_matmul_test.cu and decode_experts_test.cu hold every form to that.
 *
 * Codes: 0; -EINVAL (a rule stated here is broken: nothing was enqueued); -ENODEV (the
 * device is lost, or has no code in this build).
 */
#ifndef HEARTH_KERNELS_CUDA_DECODE_MATMUL_H
#define HEARTH_KERNELS_CUDA_DECODE_MATMUL_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/cuda/pack.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MATMUL_MAX_ROWS 256
#define MATMUL_MAX_EXPERTS 512
#define MATMUL_MAX_EXPERT_ROWS 32768
#define MATMUL_MAX_K 24576
#define MATMUL_CHOOSE_MAX_K 16384	/* sums and a block's own list share its 99 KB */

enum matmul_out {
	MATMUL_OUT_F32,
	MATMUL_OUT_BF16,
	/* bf16(silu(gate) up), [n_rows][ldy] of n / 2 values: W has gate and up in turns of
	 * eight rows (gate 0-7, up 0-7, gate 8-15, ...), n a multiple of 16. */
	MATMUL_OUT_SWIGLU,
};

/* How the work is laid out.  Only tests and benches choose; all give the same bits. */
enum matmul_form {
	MATMUL_AUTO,
	MATMUL_NARROW,	/* the warps of a block share a row tile and split K among them */
	MATMUL_WIDE,	/* x passes through shared memory; groups of warps take turns at the sum */
	MATMUL_SQUARE,	/* on Hopper, 64 rows at most, no NVFP4: warpgroups multiply (wgmma) */
	MATMUL_RING,	/* experts of few slices, quantised: weights pass through shared memory */
};

struct decode_matmul_args {
	const void *w;		/* device, matmul_packed_bytes(format, n, k), 16-byte aligned */
	const void *x;		/* device, [n_rows][ldx] bfloat16, 16-byte aligned */
	void *y;		/* device, [n_rows][ldy] of `out`; must not overlap x or w */
	uint32_t n_rows;	/* 1..MATMUL_MAX_ROWS */
	uint32_t n, k;		/* W is [n, k]; k a multiple of 8, at most MATMUL_MAX_K */
	uint32_t ldx;		/* elements, a multiple of 8, >= k */
	uint32_t ldy;		/* elements, >= n (SWIGLU: n / 2) */
	/* What follows W, from its last row rounded up to MATMUL_TILE on: n_swiglu more rows, as
	 * MATMUL_OUT_SWIGLU wants them, whose outputs go to y_swiglu.  0: nothing does. */
	uint32_t n_swiglu, ldy_swiglu;
	void *y_swiglu;
	/* device, 16-byte aligned, one for each row of W as it is packed (padding and n_swiglu's
	 * rows included), or NULL: 1. Multiplies the finished sum: NVFP4's global factor, FP8's scale of a row or
	 * tensor; BF16 has none. */
	const float *row_scale;
	enum matmul_format format;
	enum matmul_out out;
	enum matmul_form form;
	/* x was there before the kernel just before this call began: the product does not wait for
	 * that kernel, only ends after it.  Both count as one for who relies on being two kernels
	 * later (launch.cuh). */
	int x_settled;
	/* x's columns are in the order of steps (prefill_matmul.h, prefill_column()): only where
	 * decode_matmul_orders() says so. */
	int x_ordered;
};
int decode_matmul(const struct decode_matmul_args *a, void *stream);
/* Whether such a product is faster with x in the order of steps, and can take it. */
int decode_matmul_orders(const struct decode_matmul_args *a);
/* The same for two products that do not need each other, x as it is in both: of few rows, one BF16 and the
 * other not, in one launch; else in two that overlap. */
int decode_matmul_pair(const struct decode_matmul_args *a, const struct decode_matmul_args *b,
		       void *stream);

/* ---- experts ----------------------------------------------------------------- */

/* A pair is (row, slot): pair = row * n_slots + slot.  The list groups pairs by expert,
 * inside an expert in increasing order, and is made by route.h. */
struct expert_list {
	uint32_t *n_active;	/* [1] experts with at least one pair */
	uint32_t *active;	/* [n_experts] their ids, increasing; the first n_active count */
	uint32_t *offset;	/* [n_experts + 1] first pair of each active expert in `pair` */
	uint32_t *pair;		/* [n_rows * n_slots] */
};
/* Lays a list out in device memory of expert_list_bytes(), 16-byte aligned. */
size_t expert_list_bytes(uint32_t n_rows, uint32_t n_slots, uint32_t n_experts);
struct expert_list expert_list_at(void *mem, uint32_t n_rows, uint32_t n_slots, uint32_t n_experts);

struct route_args;	/* route.h */

struct decode_experts_args {
	const void *w;		/* device, [n_experts] packed matrices, one after the other */
	const float *row_scale;	/* device, [n_experts][rows as packed], as above; not aligned: slower */
	const void *x;		/* device, bfloat16: [n_rows][ldx], or [n_rows * n_slots][ldx] */
	void *y;		/* device, [n_rows * n_slots][ldy] of `out`: a slot's own sum */
	/* of expert_list_at(): all of its memory may be read; the struct is read now.  Where it can be
	 * empty, whoever comes after waits for the kernel before by itself (launch.cuh). */
	const struct expert_list *list;
	uint32_t n_rows, n_slots, n_experts;	/* n_slots 1..16 */
	uint32_t n, k, ldx, ldy;	/* of one expert; as above, n <= MATMUL_MAX_EXPERT_ROWS */
	int x_per_slot;		/* x has a row per pair (down), not per row (gate, up) */
	int list_settled;	/* the list was there before the kernel just before this call
				 * began: its weights are asked for while that kernel runs */
	int without_last;	/* leave the last active expert out: it was done elsewhere */
	/* NULL, or: nobody has chosen yet.  Every block chooses for itself from these logits, for at
	 * most ROUTE_FEW_ROWS rows and ROUTE_FEW_EXPERTS experts, k at most MATMUL_CHOOSE_MAX_K;
	 * `list` is not looked at.  Without list_settled ids, weights and choice->list are written for
	 * who comes later; with it, the logits were there before the kernel just before this call
	 * began, and nothing is. */
	const struct route_args *choice;	/* read now */
	enum matmul_format format;
	enum matmul_out out;	/* F32 or SWIGLU */
	enum matmul_form form;	/* AUTO, NARROW or RING */
};
int decode_experts(const struct decode_experts_args *a, void *stream);
/* And a product that does not need it, at most 6 rows of FP8 beside NVFP4 experts in one launch;
 * else in two that overlap. */
int decode_experts_beside(const struct decode_experts_args *a, const struct decode_matmul_args *b,
			  void *stream);

/* The last product of a layer of experts and the sum over its slots, for few rows:
 * y[r][i] = sum of weights[r][s] y_s[r][i], fma over s in order, starting from the product of slot 0,
 * where y_s is what decode_experts() would have left in slot s.  Experts that several rows chose are
 * read once for each of them. */
#define EXPERTS_SUM_SLOTS 9
struct experts_sum_args {
	/* y is [n_rows][ldy] float32; n_slots at most EXPERTS_SUM_SLOTS; x has a row per slot; list and
	 * choice are not looked at */
	struct decode_experts_args experts;
	/* The last slot's product where it has a matrix of its own: of as many outputs, x [n_rows][ldx],
	 * y and ldy not looked at; NULL: that slot's is one of the experts. */
	const struct decode_matmul_args *last;
	const uint32_t *ids;	/* device, [n_rows][n_slots], below n_experts but last's */
	const float *weights;	/* device, [n_rows][n_slots] */
};
int decode_experts_sum(const struct experts_sum_args *a, void *stream);

/* What follows a layer's experts of one row. */
#define EXPERTS_ROW_PRODUCTS 2
struct experts_row_next {
	void *x;		/* device, bf16 [sum.experts.n]: in and out */
	const void *norm;	/* device, bf16 [sum.experts.n], zero-centred, 16-byte aligned */
	float eps;
	/* device, 16-byte aligned, sum.experts.n / 2 words, all zeros like experts_row_args.room */
	uint32_t *room;
	/* One or two, of one row of sum.experts.n columns, rows of bfloat16 out; x not looked at; the first BF16 or
	 * FP8, the second BF16. */
	struct decode_matmul_args product[EXPERTS_ROW_PRODUCTS];
	uint32_t n_products;
};

/* Both products of one row's experts in one kernel, with the choice at its head: decode_experts() and
 * decode_experts_sum(), the same bits.  On Hopper, quantised, where the weights of a multiprocessor's
 * share have a place in its shared memory.  Its blocks wait for each other: one such kernel at a time on a
 * device, so not from two streams, nor under MPS beside another worker. */
struct experts_row_args {
	struct decode_experts_args first;	/* with a choice, as decode_experts() takes it; y not looked at */
	/* ids, weights are the choice's, not looked at; of experts.x only the last slot's row, and that only
	 * where it is one of the experts */
	struct experts_sum_args sum;
	/* device, 16-byte aligned, top * experts.k / 2 words, all zeros when the call's kernel has waited for
	 * the one before it; left with anything */
	uint32_t *room;
	/* first.x, and next->x, were there before the kernel just before this call began: they are read while that
	 * runs */
	int x_settled;
	/* NULL, or what follows, in the same kernel: x = bf16(x + sum), its norm as residual_add() makes it, and the
	 * products of that; the same bits.  sum.experts.y is not written then. */
	const struct experts_row_next *next;
};
/* Of the choice's list n_active alone is written: there is no list. */
int decode_experts_row(const struct experts_row_args *a, void *stream);
/* Whether it would: else decode_experts_row() is -EINVAL. */
int experts_row_fits(const struct experts_row_args *a);

/* ---- the end of a mixer ------------------------------------------------------- */

/* The product that leaves a mixer, the residual rows and their norm, and the products of that with which a layer's
 * experts begin, in one kernel: decode_matmul(), residual_add() and decode_matmul_pair(), the same bits.  On Hopper,
 * where a multiprocessor's shared memory holds what a block multiplies.  Its blocks wait for each other: as
 * experts_row_args says. */
#define END_MAX_ROWS 8
#define MIXER_END_CLEARS 2

struct mixer_end_clear {
	uint32_t *at;	/* device, 16-byte aligned */
	uint32_t n;	/* words, a multiple of 4; 0: none */
};

struct mixer_end_args {
	/* n_rows 1..END_MAX_ROWS; of float32, n a multiple of 8, x not in the order of steps; y is not written.  Of all
	 * three products: as decode_matmul() takes them; form and x_settled are not looked at. */
	struct decode_matmul_args out;
	/* device, bf16 [n_rows][out.n]: in and out.  It was written two or more kernels before this one (launch.cuh). */
	void *x;
	void *h;		/* device, out bf16 [n_rows][out.n], 16-byte aligned */
	const void *norm;	/* device, bf16 [out.n], zero-centred, 16-byte aligned */
	float eps;
	/* device, 16-byte aligned, n_rows * out.n / 2 words, all zeros when the call's kernel has waited for the one
	 * before it; left with anything */
	uint32_t *room;
	/* Of h: BF16, of float32, and what follows it. */
	struct decode_matmul_args router;
	/* Of h too, MATMUL_OUT_SWIGLU; NULL: there is none. */
	const struct decode_matmul_args *shared;
	/* Set to 0 on the way, for kernels that come later; not `room`. */
	struct mixer_end_clear clear[MIXER_END_CLEARS];
};
int decode_mixer_end(const struct mixer_end_args *a, void *stream);
/* Whether it would: else decode_mixer_end() is -EINVAL. */
int mixer_end_fits(const struct mixer_end_args *a);

/* out[r][i] = bf16(f32(residual[r][i]) + sum), sum = fma(w[r][s], y[r][s][i], ...) over s in
 * order, starting from the product of slot 0. */
struct experts_combine_args {
	const float *y;		/* device, [n_rows * n_slots][n] */
	const float *weight;	/* device, [n_rows][n_slots] */
	const void *residual;	/* device, [n_rows][n] bfloat16; may be `out` */
	void *out;		/* device, [n_rows][n] bfloat16 */
	uint32_t n_rows, n_slots, n;
};
int experts_combine(const struct experts_combine_args *a, void *stream);

#ifdef __cplusplus
}
#endif
#endif
