/* module.h - one matrix of a checkpoint, in whichever format its tensors say.
 *
 * A module "layers.3.mlp.gate_proj" is all tensors whose names go on behind it with a dot.  Which of
 * them exist, their types and their shapes decide the format; the configuration is not asked
 * (quant_config.h compares it afterwards).  Nothing is guessed: a part that would change the
 * arithmetic and is not known here refuses the module.
 *
 *	weight F32, F16, BF16						plain
 *	weight F8_E4M3, weight_scale_inv [ceil(N/128), ceil(K/128)]	official Qwen FP8
 *	weight F8_E4M3, weight_scale [N, 1], scalar, or in blocks	compressed-tensors, ModelOpt
 *	weight_packed U8 [N, K/2], weight_scale F8_E4M3 [N, K/16],
 *		weight_global_scale (divides)				compressed-tensors NVFP4
 *	weight U8 [N, K/2], weight_scale F8_E4M3 [N, K/16],
 *		weight_scale_2 (multiplies)				ModelOpt NVFP4
 *	weight F8_E4M3 [E, N, K] fused, NAME_scale_inv			FP8 experts in one tensor
 */
#ifndef HEARTH_WORKER_WEIGHTS_MODULE_H
#define HEARTH_WORKER_WEIGHTS_MODULE_H

#include "kernels/model.h"
#include "lib/err.h"
#include "worker/weights/tensor_set.h"

/* Blocks of FP8 that are scaled together, in rows and in columns. */
#define FP8_BLOCK 128

/* The matrix [rows, cols] of module `name`; all its tensors are marked as used.  -EINVAL: missing,
 * or its tensors contradict each other (the text names tensor, expected and found);
 * -ENOTSUP: a format that is not in the list. */
int module_matrix(const struct tensor_set *s, const char *name, uint32_t rows, uint32_t cols,
		  struct weight_ref *ret, uint64_t *ret_bytes, struct err *e);

/* True for a tensor that says nothing of the weights, wherever it hangs: scales of activations, of keys
 * and values, frequencies that are computed. */
bool module_ignores(const char *canon);

/* The plain tensor `canon`, whose dims (without those of size 1) are [n, rows, cols] without its own. */
int module_plain(const struct tensor_set *s, const char *canon, const uint32_t dims[3],
		 struct weight_ref *ret, uint64_t *ret_bytes, struct err *e);

/* All experts in one tensor `canon` [n, rows, cols], plain or FP8 in blocks: the ref of expert 0's
 * `rows` rows.  module_part() gives the others. */
int module_fused(const struct tensor_set *s, const char *canon, const uint32_t dims[3],
		 struct weight_ref *ret, uint64_t *ret_bytes, struct err *e);

/* `n` rows of a fused tensor from row `first` (of all experts' rows) on; first and n are
 * multiples of the scales' span, or -EINVAL. */
int module_part(const struct weight_ref *whole, uint64_t first, uint32_t n, struct weight_ref *ret);

#endif
