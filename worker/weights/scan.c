/* scan.c - see scan.h. */
#include "worker/weights/scan.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/weight_stream.h"

#define CHUNK 4096	/* elements looked at before one is asked which it was */

/* True when one of n elements is NaN or infinite; without a branch an element, for the compiler. */
static bool bad8(const uint8_t *p, size_t n)
{
	unsigned any = 0;

	for (size_t i = 0; i < n; i++)
		any |= (p[i] & 0x7f) == 0x7f;	/* e4m3 has no infinity */
	return any;
}

static bool bad16(const uint8_t *p, size_t n, uint16_t exponent)
{
	unsigned any = 0;

	for (size_t i = 0; i < n; i++) {
		uint16_t x;

		memcpy(&x, p + 2 * i, 2);
		any |= (x & exponent) == exponent;
	}
	return any;
}

static bool bad32(const uint8_t *p, size_t n)
{
	unsigned any = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t x;

		memcpy(&x, p + 4 * i, 4);
		any |= (x & 0x7f800000u) == 0x7f800000u;
	}
	return any;
}

static bool bad(const uint8_t *p, size_t n, enum weight_format f)
{
	switch (f) {
	case WF_F32:
		return bad32(p, n);
	case WF_F16:
		return bad16(p, n, 0x7c00);
	case WF_BF16:
		return bad16(p, n, 0x7f80);
	case WF_FP8:
		return bad8(p, n);
	case WF_NVFP4:	/* every code is a number */
	case WF_N:
		break;
	}
	return false;
}

/* base: what was looked at before, for the place in the message. */
static int scan_array(const void *data, size_t n, enum weight_format f, const char *file,
		      const char *name, const char *what, size_t base, struct err *e)
{
	const uint8_t *p = data;
	size_t each = weight_row_bytes(f, 1);

	if (f == WF_NVFP4)
		return 0;
	for (size_t at = 0; at < n; at += CHUNK) {
		size_t m = n - at < CHUNK ? n - at : CHUNK;

		if (!bad(p + at * each, m, f))
			continue;
		while (!bad(p + at * each, 1, f))
			at++;
		return weight_in_file(file, err_set(e, -EINVAL, "%s: %s %zu is not a finite number",
						    name, what, base + at), e);
	}
	return 0;
}

static int scan_piece(const struct weight_ref *w, uint32_t first, struct err *e)
{
	size_t n = (size_t)weight_scale_rows(w) * weight_scale_cols(w), before;
	int r = scan_array(w->data, (size_t)w->rows * w->cols, w->format, w->file, w->name,
			   "element", (size_t)first * w->cols, e);

	if (r < 0 || n == 0)
		return r;
	before = (size_t)(first / w->span_rows) * weight_scale_cols(w);
	return scan_array(w->scale, n, w->scale_format, w->scale_file, w->name, "scale", before, e);
}

/* ---- all of a model -------------------------------------------------------------------- */

struct list {
	struct weight_piece *p;
	size_t n, cap;
};

static int list_weight(struct list *l, const struct weight_piece *key, const struct weight_ref *w)
{
	uint32_t each = weight_piece_rows(w, WEIGHT_PIECE);

	for (uint32_t first = 0; first < w->rows; first += each) {
		if (l->n == l->cap) {
			size_t cap = l->cap * 2 + 1024;
			struct weight_piece *more = realloc(l->p, cap * sizeof(*more));

			if (!more)
				return -ENOMEM;
			l->p = more;
			l->cap = cap;
		}
		l->p[l->n] = *key;
		l->p[l->n].first = first;
		l->p[l->n++].rows = w->rows - first < each ? w->rows - first : each;
	}
	return 0;
}

static int list_all(const struct model_shape *s, const struct weight_source *w, struct list *ret)
{
	struct weight_piece k = { .layer = 0 };
	struct weight_ref ref;
	int r = 0;

	for (int slot = 0; slot < W_N_SLOTS; slot++) {
		uint32_t layers = slot < W_PER_LAYER ? 1 : s->n_layers + s->n_mtp_layers;
		uint32_t each = slot >= W_EXPERT_GATE && slot <= W_EXPERT_DOWN ? s->n_experts : 1;

		k.slot = (enum weight_slot)slot;
		for (k.layer = 0; k.layer < layers; k.layer++)
			for (k.expert = 0; r == 0 && k.expert < each; k.expert++)
				if (w->find(w->ctx, k.slot, k.layer, k.expert, &ref) == 0)
					r = list_weight(ret, &k, &ref);
	}
	return r;
}

static int scan_stream(struct weight_stream *in, const struct list *l, uint64_t *ret_bytes,
		       struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < l->n; i++) {
		struct weight_ref ref;

		r = weight_stream_next(in, &ref, e);
		if (r < 0)
			break;
		r = scan_piece(&ref, l->p[i].first, e);
		*ret_bytes += weight_data_bytes(&ref) + weight_scale_bytes(&ref);
		weight_stream_done(in);
	}
	return r;
}

int scan_weights(const struct model_shape *s, const struct weight_source *w, uint64_t *ret_bytes,
		 struct err *e)
{
	const struct weight_room room = { NULL, WEIGHT_ROOM };
	struct weight_stream *in = NULL;
	struct list l = { NULL, 0, 0 };
	int r = list_all(s, w, &l);

	*ret_bytes = 0;
	if (r < 0)
		err_set(e, r, "out of memory");
	if (r == 0)
		r = weight_stream_open(w, l.p, l.n, &room, &in, e);
	if (r == 0)
		r = scan_stream(in, &l, ret_bytes, e);
	weight_stream_close(in);
	free(l.p);
	return r;
}
