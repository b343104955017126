/* quantize.h - a source of weights that hands some of another's matrices on as FP8.
 *
 * What `--quantize` of the worker does: the head, or the dense projections, of a checkpoint that
 * has them in BF16, F16 or F32 become FP8 (e4m3) with one float32 scale a row, while they are
 * loaded.  Both back ends take them for a checkpoint's own FP8 per row (kernels/model.h), and hold
 * the same bytes, because the conversion is here, on the host, and nowhere else: kernels/e4m3.h
 * says how a row is rounded.
 *
 *	head	lm_head.  Of a model that ties it, a second copy: the embedding stays as it is
 *	dense	in every layer, that of MTP included: DeltaNet's q k v, z and out; attention's
 *		q, k, v and o; gate, up and down of the shared expert or of a dense MLP
 *
 * Never: routed experts, router, the shared expert's score, DeltaNet's a and b, MTP's first
 * matrix, embedding, norms and vectors; what is quantised already; a matrix whose columns are no
 * multiple of 16 (the GPU's layout of FP8).
 *
 * Such a matrix has no bytes before the stream makes them: find() gives it with `streamed`, data
 * and scale NULL.
 *
 * Thread: as the source underneath; conversion itself is spread over the processors this process
 * may use.
 */
#ifndef HEARTH_KERNELS_QUANTIZE_H
#define HEARTH_KERNELS_QUANTIZE_H

#include "kernels/model.h"

#ifdef __cplusplus
extern "C" {
#endif

enum quantize {			/* a set: both bits are both */
	QUANTIZE_NONE = 0,
	QUANTIZE_HEAD = 1,
	QUANTIZE_DENSE = 2,
	QUANTIZE_HEAD_DENSE = QUANTIZE_HEAD | QUANTIZE_DENSE,
};

#define QUANTIZE_WORDS "none|head|dense|head+dense"

/* One of the words.  -EINVAL. */
int quantize_parse(const char *word, enum quantize *ret);
const char *quantize_name(enum quantize q);

/* The matrices of `what`, and their bytes with their scales; 0 of each where the checkpoint has
 * none to convert. */
struct quantize_facts {
	uint32_t n_matrices;
	uint64_t bytes_before, bytes_after;
};

struct quantized;

/* `inner` outlives it.  With QUANTIZE_NONE its source is `inner` once more.  -ENOMEM. */
int quantized_new(const struct model_shape *shape, const struct weight_source *inner,
		  enum quantize what, struct quantized **ret);
struct quantized *quantized_free(struct quantized *q);	/* NULL ok */
/* Load from this; valid as long as q.  A stream of it refuses a NaN or an infinity with -EINVAL and
 * the tensor's name, row and column. */
const struct weight_source *quantized_source(const struct quantized *q);
const struct quantize_facts *quantized_facts(const struct quantized *q);

#ifdef __cplusplus
}
#endif
#endif
