/* dummy_stream.c - made-up weights piece by piece, into the room of who asks: see dummy.h and
 * weight_stream.h.
 *
 * Nothing is read ahead: a piece is made when it is asked for, its rows shared out to a thread a
 * core.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu/pool.h"
#include "kernels/dummy.h"
#include "kernels/weight_stream.h"
#include "lib/own.h"

#define SHARE_ROWS 128		/* whole blocks of scales */
#define ALIGN 64

struct made_stream {
	struct weight_stream base;
	const struct dummy *d;
	struct weight_source source;
	struct weight_piece *pieces;
	size_t n, at;
	struct weight_room room;
	bool own_room;
	size_t held;		/* bytes of the room handed out since the last done */
	struct pool *pool;
};

/* One piece and its parts, for the pool. */
struct job {
	const struct dummy *d;
	const struct weight_ref *whole, *ret;
	struct weight_piece piece;
	uint32_t share;		/* rows of a part */
};

static void make_part(void *ctx, uint32_t task)
{
	const struct job *j = ctx;
	struct weight_piece p = j->piece;
	struct weight_ref part;

	p.first += task * j->share;
	const uint32_t left = p.rows - task * j->share;

	p.rows = left < j->share ? left : j->share;
	if (weight_rows(j->ret, task * j->share, p.rows, &part) < 0)
		abort();	/* parts are whole blocks */
	dummy_fill(j->d, j->whole, &p, (void *)(uintptr_t)part.data, (void *)(uintptr_t)part.scale);
}

static void make(struct made_stream *s, const struct weight_ref *whole,
		 const struct weight_piece *p, const struct weight_ref *ret)
{
	struct job j = { s->d, whole, ret, *p, SHARE_ROWS };
	const uint32_t blocks = (p->rows + SHARE_ROWS - 1) / SHARE_ROWS;
	const uint32_t threads = pool_threads(s->pool);

	j.share = (blocks + threads - 1) / threads * SHARE_ROWS;
	pool_run(s->pool, make_part, &j, (p->rows + j.share - 1) / j.share);
}

static size_t aligned(size_t n)
{
	return (n + ALIGN - 1) / ALIGN * ALIGN;
}

/* The piece as it will be handed out, its bytes at `at` (NULL: only to know their size). */
static int place(const struct made_stream *s, const struct weight_piece *p, char *at,
		 struct weight_ref *ret_whole, struct weight_ref *ret, size_t *ret_bytes)
{
	int r = s->source.find(s->source.ctx, p->slot, p->layer, p->expert, ret_whole);

	if (r < 0)
		return r;
	r = weight_rows(ret_whole, p->first, p->rows, ret);
	if (r < 0)
		return r;
	*ret_bytes = aligned(weight_data_bytes(ret)) + aligned(weight_scale_bytes(ret));
	ret->streamed = false;
	ret->data = at;
	ret->scale = at && weight_scale_bytes(ret) ? at + aligned(weight_data_bytes(ret)) : NULL;
	return 0;
}

static int made_next(struct weight_stream *base, struct weight_ref *ret, struct err *e)
{
	struct made_stream *s = (struct made_stream *)base;
	const struct weight_piece *p = &s->pieces[s->at];
	struct weight_ref whole;
	size_t bytes;

	if (s->at == s->n)
		return err_set(e, -ENOENT, "no more weights were asked for");
	if (place(s, p, (char *)s->room.p + s->held, &whole, ret, &bytes) < 0)
		return err_set(e, -EINVAL, "%s: no such piece", weight_slot_name(p->slot));
	if (bytes > s->room.bytes - s->held)
		return err_set(e, -ENOBUFS, "%s: too many pieces are held",
			       weight_slot_name(p->slot));
	make(s, &whole, p, ret);
	s->held += bytes;
	s->at++;
	return 0;
}

static void made_done(struct weight_stream *base)
{
	((struct made_stream *)base)->held = 0;
}

static void made_close(struct weight_stream *base)
{
	struct made_stream *s = (struct made_stream *)base;

	pool_free(s->pool);
	if (s->own_room)
		munmap(s->room.p, s->room.bytes);
	free(s->pieces);
	free(s);
}

static const struct weight_stream_ops made_ops = { made_next, made_done, made_close };

static void made_freep(struct made_stream **s)
{
	if (*s)
		made_close(&(*s)->base);
}

static int take_room(struct made_stream *s, const struct weight_room *room, struct err *e)
{
	s->room = *room;
	if (room->p)
		return 0;
	s->room.p =
		mmap(NULL, room->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->room.p == MAP_FAILED)
		return err_set(e, -ENOMEM, "no %zu bytes to make weights in", room->bytes);
	s->own_room = true;
	return 0;
}

int dummy_stream(void *dummy, const struct weight_piece *pieces, size_t n,
		 const struct weight_room *room, struct weight_stream **ret, struct err *e)
{
	CLEANUP(made_freep) struct made_stream *s = calloc(1, sizeof(*s));
	struct weight_ref whole, ref;
	size_t bytes;

	if (!s || !(s->pieces = calloc(n + 1, sizeof(*pieces))))
		return err_set(e, -ENOMEM, "out of memory");
	s->base.ops = &made_ops;
	s->d = dummy;
	s->source = dummy_source(dummy);
	s->n = n;
	for (size_t i = 0; i < n; i++) {
		s->pieces[i] = pieces[i];
		if (place(s, &pieces[i], NULL, &whole, &ref, &bytes) < 0)
			return err_set(e, -EINVAL, "%s of layer %u: no piece of %u rows at %u",
				       weight_slot_name(pieces[i].slot), pieces[i].layer,
				       pieces[i].rows, pieces[i].first);
		if (bytes > room->bytes / 2)
			return err_set(e, -E2BIG, "%s: a piece of %zu bytes",
				       weight_slot_name(pieces[i].slot), bytes);
	}
	int r = take_room(s, room, e);
	if (r < 0)
		return r;
	if (pool_new(0, &s->pool) < 0)
		return err_set(e, -ENOMEM, "no threads to make weights with");
	struct made_stream *done = TAKE(s);
	*ret = &done->base;
	return 0;
}
