/* cpu_load.c - weights into the layout of path.h.
 *
 * One walk over the shape serves twice: the first time it looks at every weight's shape and lists
 * the pieces it will want, nothing large being taken; the second time it takes them from the
 * stream, one by one, while those that follow are read.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dequant.h"
#include "kernels/weight_stream.h"
#include "lib/own.h"

void *cpu_alloc(struct cpu_device *d, size_t n, size_t size)
{
	size_t bytes;

	/* the loops read up to 16 elements behind the end */
	if (__builtin_mul_overflow(n + 16, size, &bytes))
		return NULL;
	return slab_alloc(&d->slabs, bytes);
}

/* ---- matrices and vectors --------------------------------------------------------------- */

struct loader {
	struct cpu_device *d;
	const struct weight_source *w;
	device_progress *progress;
	void *ctx;
	struct err *e;
	bool listing;			/* the first walk */
	struct weight_piece *pieces;
	size_t n, cap;
	struct weight_stream *in;
	uint64_t done;
	uint32_t layer;
	int r;			/* the first failure */
};

static bool find(struct loader *l, enum weight_slot slot, uint32_t expert, uint32_t rows,
		 uint32_t cols, struct weight_ref *ret)
{
	if (l->r < 0)
		return false;
	l->r = l->w->find(l->w->ctx, slot, slot < W_PER_LAYER ? 0 : l->layer, expert, ret);
	if (l->r < 0) {
		l->r = err_set(l->e, -EINVAL, "layer %u: no %s", l->layer, weight_slot_name(slot));
	} else if (ret->rows != rows || ret->cols != cols) {
		l->r = err_set(l->e, -EINVAL, "%s: expected [%u, %u], found [%u, %u]", ret->name,
			       rows, cols, ret->rows, ret->cols);
	}
	return l->r == 0;
}

static void list_piece(struct loader *l, const struct weight_piece *p)
{
	if (l->n == l->cap) {
		size_t cap = l->cap * 2 + 256;
		struct weight_piece *more = realloc(l->pieces, cap * sizeof(*more));

		if (!more) {
			l->r = err_set(l->e, -ENOMEM, "out of memory");
			return;
		}
		l->pieces = more;
		l->cap = cap;
	}
	l->pieces[l->n++] = *p;
}

/* All of w, in pieces. */
static void list(struct loader *l, enum weight_slot slot, uint32_t expert,
		 const struct weight_ref *w)
{
	uint32_t each = weight_piece_rows(w, WEIGHT_PIECE), left;

	for (uint32_t first = 0; l->r == 0 && first < w->rows; first += each) {
		left = w->rows - first;
		list_piece(l, &(struct weight_piece){ .slot = slot,
						      .expert = expert,
						      .first = first,
						      .layer = slot < W_PER_LAYER ? 0 : l->layer,
						      .rows = left < each ? left : each });
	}
}

static bool next(struct loader *l, struct weight_ref *part)
{
	if (l->r == 0)
		l->r = weight_stream_next(l->in, part, l->e);
	return l->r == 0;
}

static void done(struct loader *l, const struct weight_ref *part)
{
	weight_stream_done(l->in);
	l->done += weight_data_bytes(part) + weight_scale_bytes(part);
	if (l->r == 0 && l->progress)
		l->r = l->progress(l->ctx, l->done, l->w->total_bytes);
}

/* Nothing in the first walk. */
static void *room_for(struct loader *l, size_t n, size_t size)
{
	void *p = l->r == 0 && !l->listing ? cpu_alloc(l->d, n, size) : NULL;

	if (!p && l->r == 0 && !l->listing)
		l->r = err_set(l->e, -ENOMEM, "out of memory for the weights");
	return p;
}

/* What is no matrix is never quantised. */
static bool find_plain(struct loader *l, enum weight_slot slot, uint32_t rows, uint32_t cols,
		       struct weight_ref *ret)
{
	if (!find(l, slot, 0, rows, cols, ret))
		return false;
	if (!weight_is_plain(ret->format))
		l->r = err_set(l->e, -ENOTSUP, "%s: %s, and only a matrix may be", ret->name,
			       weight_format_name(ret->format));
	return l->r == 0;
}

/* All elements of a plain weight as float32, or (to16) as bfloat16. */
static void take_plain(struct loader *l, enum weight_slot slot, const struct weight_ref *w,
		       float *to, uint16_t *to16)
{
	struct weight_ref part;
	uint32_t first = 0;

	if (l->listing)
		list(l, slot, 0, w);
	for (; !l->listing && first < w->rows && next(l, &part); first += part.rows) {
		size_t n = (size_t)part.rows * w->cols, at = (size_t)first * w->cols;

		if (to16 && part.format == WF_BF16)
			memcpy(to16 + at, part.data, n * sizeof(*to16));
		else if (to16)
			for (size_t i = 0; i < n; i++)
				to16[at + i] =
					bf16_bits(dequant_element(part.data, part.format, i));
		else
			for (size_t i = 0; i < n; i++)
				to[at + i] = dequant_element(part.data, part.format, i);
		done(l, &part);
	}
}

/* A vector as float32, `plus` added. */
static float *vector(struct loader *l, enum weight_slot slot, uint32_t n, float plus)
{
	struct weight_ref w;
	float *p;

	if (!find_plain(l, slot, 1, n, &w))
		return NULL;
	p = room_for(l, pad16(n), 4);
	if (p || l->listing)
		take_plain(l, slot, &w, p, NULL);
	for (uint32_t i = 0; p && i < n; i++)
		p[i] += plus;
	return p;
}

static void matrix(struct loader *l, enum weight_slot slot, uint32_t expert, uint32_t rows,
		   uint32_t cols, struct mat *m)
{
	struct weight_ref w, part;
	uint32_t first = 0, factors;

	if (!find(l, slot, expert, rows, cols, &w))
		return;
	if (l->listing) {
		list(l, slot, expert, &w);
		return;
	}
	*m = (struct mat){ .rows = rows, .cols = cols, .groups = pad16(rows) / 16,
			   .f32 = !l->d->round, .fp4 = cpu_fp4_takes(l->d, slot, l->layer, &w) };
	m->data = room_for(l, (size_t)m->groups * LANES * (m->f32 ? cols : (cols + 1) / 2), 4);
	factors = cpu_factors(&w);
	if (factors)
		m->factor = room_for(l, (size_t)m->groups * factors, sizeof(float));
	for (; l->r == 0 && first < rows && next(l, &part); first += part.rows) {
		l->r = cpu_pack(l->d, &part, first, m, l->e);
		done(l, &part);
	}
}

/* ---- layers -------------------------------------------------------------------------- */

/* The convolution, channels beside one another. */
static void load_conv(struct loader *l, struct layer *y)
{
	const struct model_shape *s = &l->d->base.shape;
	uint32_t c = gdn_channels(s), width = s->gdn_conv_width;
	CLEANUP(freep) float *rows = NULL;
	struct weight_ref w;

	if (!find_plain(l, W_GDN_CONV, c, width, &w))
		return;
	rows = malloc((size_t)c * width * sizeof(*rows));
	if (!rows)
		l->r = err_set(l->e, -ENOMEM, "out of memory for the weights");
	else
		take_plain(l, W_GDN_CONV, &w, rows, NULL);
	y->conv = room_for(l, (size_t)c * width, 4);
	for (uint32_t i = 0; y->conv && i < c; i++)
		for (uint32_t j = 0; j < width; j++)
			y->conv[(size_t)j * c + i] = rows[(size_t)i * width + j];
}

static void load_gdn(struct loader *l, struct layer *y)
{
	const struct model_shape *s = &l->d->base.shape;
	uint32_t c = gdn_channels(s), vd = s->gdn_v_heads * s->gdn_head_dim;

	matrix(l, W_GDN_QKV, 0, c, s->hidden, &y->qkv);
	matrix(l, W_GDN_Z, 0, vd, s->hidden, &y->z);
	matrix(l, W_GDN_A, 0, s->gdn_v_heads, s->hidden, &y->a);
	matrix(l, W_GDN_B, 0, s->gdn_v_heads, s->hidden, &y->b);
	matrix(l, W_GDN_OUT, 0, s->hidden, vd, &y->out);
	y->a_decay = vector(l, W_GDN_A_LOG, s->gdn_v_heads, 0);
	y->dt_bias = vector(l, W_GDN_DT_BIAS, s->gdn_v_heads, 0);
	y->gdn_norm = vector(l, W_GDN_NORM, s->gdn_head_dim, 0);
	for (uint32_t h = 0; y->a_decay && h < s->gdn_v_heads; h++)
		y->a_decay[h] = (float)-exp((double)y->a_decay[h]);
	load_conv(l, y);
}

static void load_attention(struct loader *l, struct layer *y)
{
	const struct model_shape *s = &l->d->base.shape;
	uint32_t qd = s->n_q_heads * s->head_dim, kvd = s->n_kv_heads * s->head_dim;

	matrix(l, W_Q, 0, 2 * qd, s->hidden, &y->q);
	matrix(l, W_K, 0, kvd, s->hidden, &y->k);
	matrix(l, W_V, 0, kvd, s->hidden, &y->v);
	matrix(l, W_O, 0, s->hidden, qd, &y->o);
	y->q_norm = vector(l, W_Q_NORM, s->head_dim, 1);
	y->k_norm = vector(l, W_K_NORM, s->head_dim, 1);
}

static void load_mlp(struct loader *l, struct layer *y)
{
	const struct model_shape *s = &l->d->base.shape;
	uint32_t n = s->n_experts;

	if (!y->gate)	/* small: there from the first walk on */
		y->gate = cpu_alloc(l->d, 3 * ((size_t)n + 1), sizeof(struct mat));
	if (!y->gate && l->r == 0)
		l->r = err_set(l->e, -ENOMEM, "out of memory for the weights");
	if (l->r < 0)
		return;
	y->up = y->gate + n + 1;
	y->down = y->up + n + 1;
	if (n)
		matrix(l, W_ROUTER, 0, n, s->hidden, &y->router);
	for (uint32_t x = 0; x < n; x++) {
		matrix(l, W_EXPERT_GATE, x, s->expert_inter, s->hidden, &y->gate[x]);
		matrix(l, W_EXPERT_UP, x, s->expert_inter, s->hidden, &y->up[x]);
		matrix(l, W_EXPERT_DOWN, x, s->hidden, s->expert_inter, &y->down[x]);
	}
	if (n && s->shared_inter) {
		matrix(l, W_SHARED_GATE, 0, s->shared_inter, s->hidden, &y->gate[n]);
		matrix(l, W_SHARED_UP, 0, s->shared_inter, s->hidden, &y->up[n]);
		matrix(l, W_SHARED_DOWN, 0, s->hidden, s->shared_inter, &y->down[n]);
		matrix(l, W_SHARED_SCORE, 0, 1, s->hidden, &y->score);
	}
	if (!n) {
		matrix(l, W_MLP_GATE, 0, s->dense_inter, s->hidden, &y->gate[0]);
		matrix(l, W_MLP_UP, 0, s->dense_inter, s->hidden, &y->up[0]);
		matrix(l, W_MLP_DOWN, 0, s->hidden, s->dense_inter, &y->down[0]);
	}
}

static void load_embedding(struct loader *l)
{
	struct cpu_device *d = l->d;
	size_t n = (size_t)d->base.shape.vocab_rows * d->base.shape.hidden;
	struct weight_ref w;

	if (!find_plain(l, W_EMBED, d->base.shape.vocab_rows, d->base.shape.hidden, &w))
		return;
	if (d->round)
		d->embed16 = room_for(l, n, 2);
	else
		d->embed = room_for(l, n, 4);
	take_plain(l, W_EMBED, &w, d->embed, d->embed16);
}

static void walk(struct loader *l)
{
	struct cpu_device *d = l->d;
	const struct model_shape *s = &d->base.shape;
	uint32_t n = s->n_layers + s->n_mtp_layers, gdn = 0, attn = 0;

	load_embedding(l);
	matrix(l, W_HEAD, 0, s->vocab_rows, s->hidden, &d->head);
	d->final_norm = vector(l, W_FINAL_NORM, s->hidden, 1);
	if (s->n_mtp_layers) {
		matrix(l, W_MTP_FC, 0, s->hidden, 2 * s->hidden, &d->mtp_fc);
		d->mtp_embed_norm = vector(l, W_MTP_EMBED_NORM, s->hidden, 1);
		d->mtp_hidden_norm = vector(l, W_MTP_HIDDEN_NORM, s->hidden, 1);
		d->mtp_norm = vector(l, W_MTP_NORM, s->hidden, 1);
	}
	for (uint32_t i = 0; l->r == 0 && i < n; i++) {
		struct layer *y = &d->layers[i];

		l->layer = i;
		y->mixer = i < s->n_layers ? (enum mixer_kind)s->mixer[i] : MIXER_ATTENTION;
		y->place = y->mixer == MIXER_GDN ? gdn++ : attn++;
		y->input_norm = vector(l, W_INPUT_NORM, s->hidden, 1);
		y->post_norm = vector(l, W_POST_NORM, s->hidden, 1);
		if (y->mixer == MIXER_GDN)
			load_gdn(l, y);
		else
			load_attention(l, y);
		load_mlp(l, y);
	}
}

int cpu_load_weights(struct cpu_device *d, const struct weight_source *w,
		     device_progress *progress, void *ctx, struct err *e)
{
	const struct model_shape *s = &d->base.shape;
	const struct weight_room room = { NULL, WEIGHT_ROOM };
	struct loader l = {
		.d = d, .w = w, .progress = progress, .ctx = ctx, .e = e, .listing = true
	};

	d->layers = cpu_alloc(d, s->n_layers + s->n_mtp_layers, sizeof(d->layers[0]));
	if (!d->layers)
		return err_set(e, -ENOMEM, "out of memory for the weights");
	walk(&l);
	if (l.r == 0)
		l.r = weight_stream_open(w, l.pieces, l.n, &room, &l.in, e);
	free(l.pieces);
	l.listing = false;
	l.layer = 0;
	if (l.r == 0)
		walk(&l);
	weight_stream_close(l.in);
	return l.r;
}
