/* weight_stream.c - pieces of a source: see weight_stream.h. */
#include "kernels/weight_stream.h"

#include <stdlib.h>
#include <string.h>

#include "lib/own.h"

#define ROW_BLOCK 128	/* a multiple of every span of scales and of every tile of rows */

int weight_rows(const struct weight_ref *w, uint32_t first, uint32_t n, struct weight_ref *ret)
{
	if (n == 0 || first > w->rows || n > w->rows - first)
		return -EINVAL;
	*ret = *w;
	ret->rows = n;
	if (w->data)
		ret->data = (const char *)w->data + weight_row_bytes(w->format, w->cols) * first;
	if (weight_is_plain(w->format))
		return 0;
	if (w->span_rows >= w->rows)	/* one row of scales for all */
		return 0;
	if (first % w->span_rows || (n % w->span_rows && first + n != w->rows))
		return -EINVAL;
	if (w->scale)
		ret->scale = (const char *)w->scale +
			     first / w->span_rows *
				     weight_row_bytes(w->scale_format, weight_scale_cols(w));
	return 0;
}

uint32_t weight_piece_rows(const struct weight_ref *w, size_t bytes)
{
	size_t row = weight_row_bytes(w->format, w->cols);
	size_t n = row ? bytes / row / ROW_BLOCK * ROW_BLOCK : w->rows;

	if (n < ROW_BLOCK)
		n = ROW_BLOCK;
	return n < w->rows ? (uint32_t)n : w->rows;
}

/* ---- sources without a stream of their own ---------------------------------------------- */

struct plain_stream {
	struct weight_stream base;
	const struct weight_source *source;
	struct weight_piece *pieces;
	size_t n, at;
};

static int find_piece(const struct weight_source *w, const struct weight_piece *p,
		      struct weight_ref *ret, struct err *e)
{
	struct weight_ref whole;

	if (w->find(w->ctx, p->slot, p->layer, p->expert, &whole) < 0)
		return err_set(e, -EINVAL, "layer %u: no %s", p->layer, weight_slot_name(p->slot));
	if (weight_rows(&whole, p->first, p->rows, ret) < 0)
		return err_set(e, -EINVAL, "%s: no piece of %u rows at %u", whole.name, p->rows, p->first);
	return 0;
}

static int plain_next(struct weight_stream *base, struct weight_ref *ret, struct err *e)
{
	struct plain_stream *s = (struct plain_stream *)base;

	if (s->at == s->n)
		return err_set(e, -ENOENT, "no more weights were asked for");
	return find_piece(s->source, &s->pieces[s->at++], ret, e);
}

static void plain_done(struct weight_stream *base)
{
	(void)base;
}

static void plain_close(struct weight_stream *base)
{
	struct plain_stream *s = (struct plain_stream *)base;

	free(s->pieces);
	free(s);
}

static const struct weight_stream_ops plain_ops = { plain_next, plain_done, plain_close };

static void plain_freep(struct plain_stream **s)
{
	if (*s)
		plain_close(&(*s)->base);
}

static int open_plain(const struct weight_source *w, const struct weight_piece *pieces, size_t n,
		      struct weight_stream **ret, struct err *e)
{
	CLEANUP(plain_freep) struct plain_stream *s = calloc(1, sizeof(*s));
	struct weight_ref ref;

	if (!s || !(s->pieces = calloc(n + 1, sizeof(*pieces))))
		return err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		int r = find_piece(w, &pieces[i], &ref, e);

		if (r < 0)
			return r;
		s->pieces[i] = pieces[i];
	}
	s->base.ops = &plain_ops;
	s->source = w;
	s->n = n;
	struct plain_stream *done = TAKE(s);
	*ret = &done->base;
	return 0;
}

int weight_stream_open(const struct weight_source *w, const struct weight_piece *pieces, size_t n,
		       const struct weight_room *room, struct weight_stream **ret, struct err *e)
{
	return w->stream ? w->stream(w->ctx, pieces, n, room, ret, e) : open_plain(w, pieces, n, ret, e);
}

int weight_stream_next(struct weight_stream *s, struct weight_ref *ret, struct err *e)
{
	return s->ops->next(s, ret, e);
}

void weight_stream_done(struct weight_stream *s)
{
	s->ops->done(s);
}

struct weight_stream *weight_stream_close(struct weight_stream *s)
{
	if (s)
		s->ops->close(s);
	return NULL;
}
