/* prefill_hopper.h - the matrix kernel of prompts on Hopper, for tiles of many rows of x
 * (prefill_matmul.cu chooses): blocks that stay, x through rings of stages.  The same bits.
 * Included by prefill_matmul.cu and prefill_hopper.cu, by nobody else. */
#ifndef HEARTH_KERNELS_CUDA_PREFILL_HOPPER_H
#define HEARTH_KERNELS_CUDA_PREFILL_HOPPER_H

#include "kernels/cuda/decode_matmul_int.cuh"
#include "kernels/cuda/prefill_matmul.h"

/* Whether the current device is one. */
bool prefill_hopper_here(void);

/* 0, -EINVAL or -ENODEV; enqueue on `stream`. */
int prefill_hopper_dense(const struct matmul_params *p, enum matmul_format f, cudaStream_t stream);
/* max_tiles: prefill_max_tiles(). */
int prefill_hopper_experts(const struct matmul_params *p, enum matmul_format f,
			   const struct prefill_list *list, uint32_t max_tiles,
			   cudaStream_t stream);

#endif
