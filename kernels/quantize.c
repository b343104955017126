/* quantize.c - see quantize.h: the words, which matrices, and the source. */
#include <stdlib.h>
#include <string.h>

#include "kernels/quantize_int.h"

/* ---- words ----------------------------------------------------------------------- */

static const char *const words[] = { "none", "head", "dense", "head+dense" };

int quantize_parse(const char *word, enum quantize *ret)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(word, words[i]) == 0) {
			*ret = (enum quantize)i;
			return 0;
		}
	return -EINVAL;
}

const char *quantize_name(enum quantize q)
{
	return words[q & QUANTIZE_HEAD_DENSE];
}

/* ---- which matrices -------------------------------------------------------------- */

static enum quantize set_of(enum weight_slot slot)
{
	switch (slot) {
	case W_HEAD:
		return QUANTIZE_HEAD;
	case W_GDN_QKV: case W_GDN_Z: case W_GDN_OUT:
	case W_Q: case W_K: case W_V: case W_O:
	case W_SHARED_GATE: case W_SHARED_UP: case W_SHARED_DOWN:
	case W_MLP_GATE: case W_MLP_UP: case W_MLP_DOWN:
		return QUANTIZE_DENSE;
	default:
		return QUANTIZE_NONE;
	}
}

bool quantized_takes(const struct quantized *q, enum weight_slot slot,
		     const struct weight_ref *w)
{
	return (set_of(slot) & q->what) && weight_is_plain(w->format) && w->cols % 16 == 0;
}

struct weight_ref quantized_ref(const struct weight_ref *w)
{
	struct weight_ref ref = { .format = WF_FP8,
				  .rows = w->rows,
				  .cols = w->cols,
				  .name = w->name,
				  .file = w->file,
				  .scale_format = WF_F32,
				  .span_rows = 1,
				  .span_cols = w->cols,
				  .global = 1,
				  .streamed = true };

	return ref;
}

static int quantized_find(void *ctx, enum weight_slot slot, uint32_t layer, uint32_t expert,
			  struct weight_ref *ret)
{
	const struct quantized *q = ctx;
	int r = q->inner->find(q->inner->ctx, slot, layer, expert, ret);

	if (r == 0 && quantized_takes(q, slot, ret))
		*ret = quantized_ref(ret);
	return r;
}

/* ---- the source ------------------------------------------------------------------ */

/* A tied head was not among the bytes: it is the embedding. */
static bool is_tied(const struct weight_source *w, enum weight_slot slot,
		    const struct weight_ref *ref)
{
	struct weight_ref embed;

	return slot == W_HEAD && ref->data && w->find(w->ctx, W_EMBED, 0, 0, &embed) == 0 &&
	       embed.data == ref->data;
}

static void count(struct quantized *q, enum weight_slot slot, uint32_t layer)
{
	const struct weight_source *w = q->inner;
	struct weight_ref ref, to;

	if (w->find(w->ctx, slot, layer, 0, &ref) < 0 || !quantized_takes(q, slot, &ref))
		return;
	to = quantized_ref(&ref);
	q->facts.n_matrices++;
	q->facts.bytes_after += weight_data_bytes(&to) + weight_scale_bytes(&to);
	if (!is_tied(w, slot, &ref))
		q->facts.bytes_before += weight_data_bytes(&ref);
}

int quantized_new(const struct model_shape *shape, const struct weight_source *inner,
		  enum quantize what, struct quantized **ret)
{
	struct quantized *q = calloc(1, sizeof(*q));

	if (!q)
		return -ENOMEM;
	q->inner = inner;
	q->what = what;
	for (int slot = 0; what && slot < W_N_SLOTS; slot++)
		for (uint32_t l = 0;
		     l < (slot < W_PER_LAYER ? 1 : shape->n_layers + shape->n_mtp_layers); l++)
			if (set_of((enum weight_slot)slot))
				count(q, (enum weight_slot)slot, l);
	q->source = *inner;
	if (q->facts.n_matrices) {
		q->source = (struct weight_source){ q, quantized_find, inner->total_bytes,
						    quantized_open };
		q->source.total_bytes += q->facts.bytes_after;
		q->source.total_bytes -=
			q->facts.bytes_before < q->source.total_bytes ? q->facts.bytes_before : 0;
	}
	*ret = q;
	return 0;
}

struct quantized *quantized_free(struct quantized *q)
{
	free(q);
	return NULL;
}

const struct weight_source *quantized_source(const struct quantized *q)
{
	return &q->source;
}

const struct quantize_facts *quantized_facts(const struct quantized *q)
{
	return &q->facts;
}
