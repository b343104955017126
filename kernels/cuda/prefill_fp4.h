/* prefill_fp4.h - y = x W^T for prompts with NVFP4 weights and NVFP4 activations, in the tensor
 * core of sm_120a and sm_121a (block-scaled mma).
 *
 * NOT RUN: nobody who built this had such a chip.  It is compiled and assembled for both; its test
 * runs all but the one instruction on other chips, with a few lines in place of the instruction
 * that do what the PTX manual says (fp4_mma.cuh).  So it is off unless asked for, and when asked
 * for it is used only after prefill_fp4_check() found, on the chip at hand, what the reference
 * says.
 *
 * Off by default also because x is rounded to four bits: another numeric class, and a worse one
 * (docs/numerics.md 7).
 *
 * Weights lie as everywhere (pack.h).  A row of y is a function of that row of x and of W alone: K
 * is added 64 columns at a time, in order, from zero; the sum is multiplied by the row's power of
 * two, then by the factor of the row of W.
 *
 * Plain C.  Device pointers, borrowed until the stream has passed the call; enqueues on `stream`
 * (a cudaStream_t), waits for nothing but where it is said.  0; -EINVAL: a rule stated here is
 * broken, nothing was enqueued; -ENODEV.
 */
#ifndef HEARTH_KERNELS_CUDA_PREFILL_FP4_H
#define HEARTH_KERNELS_CUDA_PREFILL_FP4_H

#include <stdbool.h>

#include "kernels/cuda/prefill_matmul.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows of x as kernels/cuda/fp4_lane.h lays them out: padded columns are K up to a multiple of
 * MATMUL_SLICE. */
struct fp4_rows {
	uint32_t *codes;	/* [rows][padded / 8] */
	uint32_t *scales;	/* [rows][padded / 64], four e4m3 each */
	float *power;		/* [rows] */
};
size_t fp4_rows_bytes(uint32_t n_rows, uint32_t k);
/* mem: device, fp4_rows_bytes(), 16-byte aligned. */
struct fp4_rows fp4_rows_at(void *mem, uint32_t n_rows, uint32_t k);

/* x: [n_rows][ldx] bfloat16 in prefill order, k and ldx multiples of 32.  list: only the rows that
 * are pairs on it (row = pair); NULL: all.  On every chip. */
int prefill_fp4_quantise(const void *x, uint32_t n_rows, uint32_t k, uint32_t ldx,
			 const struct prefill_list *list, const struct fp4_rows *ret, void *stream);

/* Whether the chip at hand has the instruction and this build its code. */
bool prefill_fp4_here(void);

/* As prefill_matmul() and prefill_experts() with NVFP4; x and ldx of the arguments are not looked
 * at. */
int prefill_fp4_matmul(const struct decode_matmul_args *a, const struct fp4_rows *x, void *stream);
int prefill_fp4_experts(const struct decode_experts_args *a, const struct prefill_list *list,
			const struct fp4_rows *x, void *stream);

/* How far a sum over k columns may be from the exact one, in parts of the sum of magnitudes: what
 * an accumulator of 14 bits that is cut off after each instruction costs (an FP8 mma of Ada and
 * Hopper keeps about so many; what sm_12x keeps is not known).  Small beside what four bits of
 * activation cost. */
#define PREFILL_FP4_TOLERANCE(k) ((double)((k) / 64 + 1) / 8192)

/* Random rows and weights through all of the above, against the reference (kernels/fp4_row.h, and
 * sums in double).  Codes, scales and powers must be equal.  Sums of one block each, of numbers
 * that 12 bits hold, with scales that differ from block to block and row to row, must be equal:
 * that finds a misplaced block, scale or row.  Other sums may differ by PREFILL_FP4_TOLERANCE.
 * Allocates and frees some MB, and waits.  Where prefill_fp4_here() is false it says that the
 * stand-in for the instruction is right, which only tests want to know. 0; -EIO: something
 * differs; -ENOMEM, -EINVAL: it could not be run; -ENODEV: running it broke the device. ret_text:
 * which row, or why; "". */
#define PREFILL_FP4_TEXT 160
int prefill_fp4_check(char ret_text[PREFILL_FP4_TEXT], void *stream);

#ifdef __cplusplus
}
#endif

#endif
