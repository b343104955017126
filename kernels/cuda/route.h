/* route.h - from a layer's router logits to experts: choice, weights, and the list of who goes
 * where.
 *
 * A row has n_slots = top + 1 slots when there is a shared expert: slots 0 .. top - 1 are the
 * experts with the largest logits, largest first, lower id on ties, weighed by their softmax among
 * themselves (equal to softmax over all, top, renormalise); the last slot is the shared expert, id
 * `experts`, weighed by the sigmoid of its score.
 *
 * Every row is computed by itself, in one order, whatever the number of rows.  Plain C; device
 * pointers, borrowed until the stream has passed the call; enqueues on `stream` (a cudaStream_t),
 * waits for nothing.  0, -EINVAL or -ENODEV.
 */
#ifndef HEARTH_KERNELS_CUDA_ROUTE_H
#define HEARTH_KERNELS_CUDA_ROUTE_H

#include "kernels/cuda/decode_matmul.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ROUTE_MAX_TOP 15
/* What a product can choose for at its head. */
#define ROUTE_FEW_ROWS 8
#define ROUTE_FEW_EXPERTS 256

struct route_args {
	/* [rows][stride]: `experts` logits, then the shared expert's score */
	const float *logits;
	/* experts <= MATMUL_MAX_EXPERTS, top <= ROUTE_MAX_TOP */
	uint32_t rows, experts, stride, top;
	int shared;		/* there is a shared expert */
	int list_shared;	/* ... and it is in the list, as expert `experts` */
	uint32_t *ids;		/* out [rows][n_slots] */
	float *weights;		/* out [rows][n_slots] */
	struct expert_list list;	/* out; laid out for experts + 1 */
	/* Whoever is next may begin before the logits are there, since it needs nothing of the kernel
	 * before this call either (x_settled in decode_matmul.h). */
	int early;
};
int route(const struct route_args *a, void *stream);
/* The choice alone, for any number of rows: `list` and `list_shared` are not looked at. */
int route_choose(const struct route_args *a, void *stream);

#ifdef __cplusplus
}
#endif

#endif
