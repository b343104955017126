/* prefill_pairs.h - products of prompts' experts on Hopper: what prefill_experts() uses where
 * prefill_hopper_here() and experts have more than a few pairs; the same bits. */
#ifndef HEARTH_KERNELS_CUDA_PREFILL_PAIRS_H
#define HEARTH_KERNELS_CUDA_PREFILL_PAIRS_H

#include "kernels/cuda/prefill_matmul.h"

struct matmul_params;

/* As prefill_experts(), which has checked the arguments.  Calls with one list follow each other on
 * one stream: they count in it. */
int prefill_pairs(const struct matmul_params *p, enum matmul_format f,
		  const struct prefill_list *list, cudaStream_t stream);

#endif
