/* numeric_class.c - see numeric_class.h. */
#include "worker/numeric_class.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "kernels/weight_stream.h"
#include "lib/buf.h"
#include "lib/own.h"

#define SAMPLE_BYTES ((size_t)4096)

/* Three rows of the data, three of the scales. */
struct sample {
	uint64_t hash[6];
	uint8_t seen;		/* bit i: hash[i] is there */
};

struct numeric_watch {
	struct weight_source source;
	const struct weight_source *inner;
	struct model_shape shape;
	struct sample *samples;
	size_t n;
};

struct watched_stream {
	struct weight_stream base;
	struct weight_stream *inner;
	struct numeric_watch *watch;
	struct weight_piece *pieces;
	size_t at;
};

/* ---- samples ------------------------------------------------------------------------------- */

static bool of_expert(enum weight_slot s)
{
	return s == W_EXPERT_GATE || s == W_EXPERT_UP || s == W_EXPERT_DOWN;
}

static struct sample *sample_of(const struct numeric_watch *x, enum weight_slot slot,
				uint32_t layer, uint32_t expert)
{
	size_t each = W_N_SLOTS + 3 * (size_t)x->shape.n_experts;
	size_t i = layer * each + (of_expert(slot) ?
					   W_N_SLOTS + 3 * (size_t)expert + slot - W_EXPERT_GATE :
					   (size_t)slot);

	return i < x->n ? &x->samples[i] : NULL;
}

static uint64_t hash_row(const char *p, size_t n)
{
	char three[3 * SAMPLE_BYTES];

	if (n <= sizeof(three))
		return XXH3_64bits(p, n);
	memcpy(three, p, SAMPLE_BYTES);
	memcpy(three + SAMPLE_BYTES, p + n / 2, SAMPLE_BYTES);
	memcpy(three + 2 * SAMPLE_BYTES, p + n - SAMPLE_BYTES, SAMPLE_BYTES);
	return XXH3_64bits(three, sizeof(three));
}

/* The first, middle and last of `rows` rows, those that are among the n from `first` on. */
static void sample_rows(const void *p, size_t row_bytes, uint32_t rows, uint32_t first, uint32_t n,
			struct sample *s, int to)
{
	const uint32_t row[3] = { 0, rows / 2, rows - 1 };

	for (int i = 0; i < 3; i++)
		if (row[i] >= first && row[i] - first < n) {
			s->hash[to + i] = hash_row((const char *)p + (row[i] - first) * row_bytes,
						   row_bytes);
			s->seen |= (uint8_t)(1u << (to + i));
		}
}

static void sample_part(const struct weight_ref *whole, const struct weight_ref *part,
			uint32_t first, struct sample *s)
{
	size_t row = weight_row_bytes(part->format, part->cols);

	sample_rows(part->data, row, whole->rows, first, part->rows, s, 0);
	if (weight_is_plain(whole->format))
		return;
	row = weight_row_bytes(part->scale_format, weight_scale_cols(part));
	first = whole->span_rows >= whole->rows ? 0 : first / whole->span_rows;
	sample_rows(part->scale, row, weight_scale_rows(whole), first, weight_scale_rows(part), s,
		    3);
}

/* ---- the watch ------------------------------------------------------------------------------- */

static int watched_next(struct weight_stream *base, struct weight_ref *ret, struct err *e)
{
	struct watched_stream *s = (struct watched_stream *)base;
	const struct weight_source *w = s->watch->inner;
	const struct weight_piece *p = &s->pieces[s->at];
	struct weight_ref whole;
	int r = weight_stream_next(s->inner, ret, e);

	if (r < 0)
		return r;
	s->at++;
	struct sample *to = sample_of(s->watch, p->slot, p->layer, p->expert);
	if (to && w->find(w->ctx, p->slot, p->layer, p->expert, &whole) == 0)
		sample_part(&whole, ret, p->first, to);
	return 0;
}

static void watched_done(struct weight_stream *base)
{
	weight_stream_done(((struct watched_stream *)base)->inner);
}

static void watched_close(struct weight_stream *base)
{
	struct watched_stream *s = (struct watched_stream *)base;

	weight_stream_close(s->inner);
	free(s->pieces);
	free(s);
}

static const struct weight_stream_ops watched_ops = { watched_next, watched_done, watched_close };

static void watched_freep(struct watched_stream **s)
{
	if (*s)
		watched_close(&(*s)->base);
}

static int watched_open(void *ctx, const struct weight_piece *pieces, size_t n,
			const struct weight_room *room, struct weight_stream **ret, struct err *e)
{
	CLEANUP(watched_freep) struct watched_stream *s = calloc(1, sizeof(*s));
	struct numeric_watch *x = ctx;

	if (!s || !(s->pieces = calloc(n + 1, sizeof(*pieces))))
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(s->pieces, pieces, n * sizeof(*pieces));
	s->base.ops = &watched_ops;
	s->watch = x;
	int r = weight_stream_open(x->inner, pieces, n, room, &s->inner, e);
	if (r < 0)
		return r;
	struct watched_stream *done = TAKE(s);
	*ret = &done->base;
	return 0;
}

static int watched_find(void *ctx, enum weight_slot slot, uint32_t layer, uint32_t expert,
			struct weight_ref *ret)
{
	const struct weight_source *w = ((struct numeric_watch *)ctx)->inner;

	return w->find(w->ctx, slot, layer, expert, ret);
}

int numeric_watch_new(const struct model_shape *shape, const struct weight_source *w,
		      struct numeric_watch **ret)
{
	CLEANUP(freep) struct numeric_watch *x = calloc(1, sizeof(*x));

	if (!x)
		return -ENOMEM;
	x->shape = *shape;
	x->inner = w;
	x->source = (struct weight_source){ .ctx = x, .find = watched_find, .stream = watched_open,
					    .total_bytes = w->total_bytes };
	x->n = ((size_t)shape->n_layers + shape->n_mtp_layers) *
	       (W_N_SLOTS + 3 * (size_t)shape->n_experts);
	x->samples = calloc(x->n + 1, sizeof(x->samples[0]));
	if (!x->samples)
		return -ENOMEM;
	*ret = TAKE(x);
	return 0;
}

struct numeric_watch *numeric_watch_free(struct numeric_watch *x)
{
	if (x)
		free(x->samples);
	free(x);
	return NULL;
}

const struct weight_source *numeric_watch_source(const struct numeric_watch *x)
{
	return &x->source;
}

/* ---- the class ----------------------------------------------------------------------- */

static void hash_text(XXH3_state_t *x, const char *s, size_t n)
{
	XXH3_128bits_update(x, s, n);
	XXH3_128bits_update(x, "", 1);	/* so that two texts never run together */
}

static int put_shape(struct buf *b, const struct model_shape *s)
{
	buf_printf(b, "hidden %u layers %u vocab %u ids %u eps %a positions %u ", s->hidden,
		   s->n_layers, s->vocab_rows, s->n_token_ids, (double)s->norm_eps,
		   s->max_positions);
	for (uint32_t i = 0; i < s->n_layers && i < MODEL_MAX_LAYERS; i++)
		buf_putc(b, s->mixer[i] == MIXER_GDN ? 'g' : 'a');
	buf_printf(b, " attention %u %u %u rope %u %a %u %u %u yarn %a %u %a", s->n_q_heads,
		   s->n_kv_heads, s->head_dim, s->rotary_dim, s->rope_theta, s->mrope_section[0],
		   s->mrope_section[1], s->mrope_section[2], s->yarn_factor, s->yarn_original,
		   s->yarn_attention_factor);
	buf_printf(b, " gdn %u %u %u %u", s->gdn_k_heads, s->gdn_v_heads, s->gdn_head_dim,
		   s->gdn_conv_width);
	buf_printf(b, " mlp %u %u %u %u %u mtp %u", s->n_experts, s->n_experts_used,
		   s->expert_inter, s->shared_inter, s->dense_inter, s->n_mtp_layers);
	return buf_ok(b) ? 0 : -ENOMEM;
}

static int hash_weight(XXH3_state_t *x, const struct numeric_watch *watch, enum weight_slot slot,
		       uint32_t layer, uint32_t expert)
{
	const struct weight_source *src = watch->inner;
	const struct sample *passed = sample_of(watch, slot, layer, expert);
	struct weight_ref w;
	char text[160];
	int n, r = src->find(src->ctx, slot, layer, expert, &w);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	n = snprintf(text, sizeof(text), "%d %" PRIu32 " %" PRIu32 " %d %" PRIu32 " %" PRIu32,
		     (int)slot, layer, expert, (int)w.format, w.rows, w.cols);
	if (!weight_is_plain(w.format))
		n += snprintf(text + n, sizeof(text) - (size_t)n,
			      " scale %d %" PRIu32 " %" PRIu32 " %a", (int)w.scale_format,
			      w.span_rows, w.span_cols, (double)w.global);
	hash_text(x, text, (size_t)n);
	struct sample s = { .seen = 0 };
	uint8_t all = weight_is_plain(w.format) ? 7 : 63;

	if (passed && passed->seen == all)
		s = *passed;
	else
		sample_part(&w, &w, 0, &s);
	XXH3_128bits_update(x, s.hash, sizeof(s.hash));
	return 0;
}

static int hash_weights(XXH3_state_t *x, const struct numeric_watch *watch)
{
	const struct model_shape *shape = &watch->shape;
	int r = 0;

	for (int slot = 0; slot < W_N_SLOTS && r == 0; slot++) {
		uint32_t n_layers = slot < W_PER_LAYER ? 1 : shape->n_layers + shape->n_mtp_layers;
		uint32_t n_experts = of_expert((enum weight_slot)slot) ? shape->n_experts : 1;

		for (uint32_t l = 0; l < n_layers && r == 0; l++)
			for (uint32_t k = 0; k < n_experts && r == 0; k++)
				r = hash_weight(x, watch, (enum weight_slot)slot, l, k);
	}
	return r;
}

int numeric_class(const struct numeric_watch *watch, const char *device_text, const char *version,
		  char ret[NUMERIC_CLASS_BYTES])
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	XXH3_state_t *x = XXH3_createState();
	XXH128_hash_t h;
	int r;

	if (!x)
		return -ENOMEM;
	XXH3_128bits_reset(x);
	buf_printf(&b, "hearth %s device %s ", version, device_text);
	r = put_shape(&b, &watch->shape);
	if (r == 0) {
		hash_text(x, b.p, b.n);
		r = hash_weights(x, watch);
	}
	h = XXH3_128bits_digest(x);
	XXH3_freeState(x);
	if (r == 0)
		snprintf(ret, NUMERIC_CLASS_BYTES, "%016" PRIx64 "%016" PRIx64, h.high64, h.low64);
	return r;
}
