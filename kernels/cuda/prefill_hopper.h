/* prefill_hopper.h - the dense matrix kernel of prompts on Hopper, for many rows of x
 * (prefill_matmul.cu chooses): blocks that stay, x through rings of stages.  The same bits.
 * Included by prefill_matmul.cu and prefill_hopper.cu, by nobody else. */
#ifndef HEARTH_KERNELS_CUDA_PREFILL_HOPPER_H
#define HEARTH_KERNELS_CUDA_PREFILL_HOPPER_H

#include "kernels/cuda/decode_matmul_int.cuh"
#include "kernels/cuda/prefill_matmul.h"

/* Whether the device is a Hopper, so that the kernels' Hopper code runs: this one, and those of
 * prefill_matmul.cu, which have more stages there. */
bool prefill_hopper_here(void);

/* As prefill_matmul().  0, -EINVAL or -ENODEV; enqueues on `stream`. */
int prefill_hopper(const struct matmul_params *p, enum matmul_format f, cudaStream_t stream);

#endif
