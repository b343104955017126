/* dummy.h - made-up weights in the shape and the formats of a published model: for speed without a
 * checkpoint, and for a comparison at true dimensions with whoever makes the same bytes
 * (tests/golden/dummy_weights.py).
 *
 * Every byte is a pure function of (seed, slot, layer, expert, place in the matrix), so any rows of
 * any matrix can be made alone, in any order, by any number of threads.  What the numbers are:
 * dummy_fill.c.
 *
 * The source has no bytes at rest: find() answers with `streamed`, and the weights
 * come by its stream, into the room of who asks, made by one thread a core.
 */
#ifndef HEARTH_KERNELS_DUMMY_H
#define HEARTH_KERNELS_DUMMY_H

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/model.h"

struct weight_piece;

/* Which published checkpoint's formats (docs/formats.md); conv, norms, router, b and a of GDN are
 * BF16 in all. */
enum dummy_recipe {
	DUMMY_BF16,
	/* official: blocks of 128 x 128; embedding and head BF16 */
	DUMMY_FP8,
	/* RedHatAI: experts, shared expert and attention NVFP4; GDN and head BF16 */
	DUMMY_NVFP4,
	/* unsloth: routed experts NVFP4; the other matrices and the head FP8 by channel */
	DUMMY_NVFP4_FP8,
	DUMMY_N
};
const char *dummy_recipe_name(enum dummy_recipe r);	/* "bf16", "fp8", "nvfp4", "nvfp4-fp8" */
/* -EINVAL: there is none of this name. */
int dummy_recipe_of(const char *name, enum dummy_recipe *ret);

#define DUMMY_SEED 1	/* what programs take */

struct dummy {
	struct model_shape shape;
	enum dummy_recipe recipe;
	uint64_t seed;
};

/* `d` is borrowed while the source is used. */
struct weight_source dummy_source(struct dummy *d);

/* What a matrix's weights are multiplied by, beyond 1 / sqrt(cols): see dummy_fill.c. */
double dummy_gain(enum weight_slot slot);

/* The bytes of a piece: `data` has weight_data_bytes() of its rows, `scale` weight_scale_bytes()
 * (NULL ok where there are none).  w: what find() answers for the whole matrix; the piece is rows
 * of it, where scales cover several rows whole blocks of them.  Any thread. */
void dummy_fill(const struct dummy *d, const struct weight_ref *w, const struct weight_piece *p,
		void *data, void *scale);

/* The stream of the source (weight_stream.h). */
int dummy_stream(void *dummy, const struct weight_piece *pieces, size_t n,
		 const struct weight_room *room, struct weight_stream **ret, struct err *e);

#ifdef __cplusplus
}
#endif

#endif
