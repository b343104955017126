/* call_quote.c - see call_quote.h. */
#include "worker/text/call_quote.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

struct call_quote_frame {
	size_t at;
	size_t seen;	/* its index there, unless replayed */
	bool block;	/* form of the value that holds the next frame */
};

struct call_quote_seen {
	size_t at;
	bool whole;
};

void call_quote_done(struct call_quote *q)
{
	free(q->frames);
	free(q->seen);
	*q = (struct call_quote){ .frames = NULL };
}

/* Room for one more of `size` bytes. */
static int grow(void **p, size_t n, size_t *cap, size_t size)
{
	size_t more = *cap ? *cap * 2 : 16;
	void *grown;

	if (n < *cap)
		return 0;
	if (more > SIZE_MAX / 2 / size)
		return -ENOMEM;
	grown = realloc(*p, more * size);
	if (!grown)
		return -ENOMEM;
	*p = grown;
	*cap = more;
	return 0;
}

static int push(struct call_quote *q, size_t at)
{
	void *frames = q->frames, *seen = q->seen;
	int r = grow(&frames, q->n_frames, &q->cap_frames, sizeof(*q->frames));

	q->frames = frames;
	if (r < 0)
		return r;
	if (!q->replay) {
		r = grow(&seen, q->n_seen, &q->cap_seen, sizeof(*q->seen));
		q->seen = seen;
		if (r < 0)
			return r;
		q->seen[q->n_seen] = (struct call_quote_seen){ .at = at };
	}
	if (q->n_frames > 0)
		q->frames[q->n_frames - 1].block = q->scan.block;
	q->frames[q->n_frames++] = (struct call_quote_frame){ .at = at, .seen = q->n_seen };
	q->n_seen += q->replay ? 0 : 1;
	q->state = CALL_QUOTE_FUNC;
	return 0;
}

static bool known_whole(const struct call_quote *q, size_t at)
{
	size_t lo = 0, hi = q->n_seen;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (q->seen[mid].at < at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < q->n_seen && q->seen[lo].at == at && q->seen[lo].whole;
}

int call_quote_begin(struct call_quote *q, size_t at)
{
	q->replay = at < q->known;
	if (q->replay && !known_whole(q, at))
		return 0;
	if (!q->replay)
		q->n_seen = 0;
	return push(q, at);
}

void call_quote_break(struct call_quote *q, size_t at)
{
	q->n_frames = 0;
	if (at > q->known)
		q->known = at;
}

static int broken(struct call_quote *q, size_t at)
{
	call_quote_break(q, at);
	return CALL_QUOTE_BROKEN;
}

static int closed(struct call_quote *q, size_t *ret_at)
{
	const struct call_quote_frame *f = &q->frames[--q->n_frames];

	*ret_at = f->at;
	if (!q->replay)
		q->seen[f->seen].whole = true;
	if (q->n_frames > 0) {
		q->state = CALL_QUOTE_VALUE;
		q->scan.block = q->frames[q->n_frames - 1].block;
		value_scan_middle(&q->scan);
	}
	return CALL_QUOTE_CLOSED;
}

static int feed_func(struct call_quote *q, const struct lexeme *lx)
{
	if (lx->kind == LEX_PARAM_END || lx->kind == LEX_CALL_END)
		return broken(q, lx->at);
	if (lx->kind == LEX_PARAM)
		q->state = CALL_QUOTE_KEY;
	else if (lx->kind == LEX_FUNC_END)
		q->state = CALL_QUOTE_AFTER;
	return CALL_QUOTE_GOES_ON;
}

static int feed_key(struct call_quote *q, const struct lexeme *lx)
{
	if (lx->kind > LEX_GT)
		return broken(q, lx->at);
	if (lx->kind == LEX_GT) {
		q->state = CALL_QUOTE_VALUE;
		value_scan_init(&q->scan, lx->at + 1);
	}
	return CALL_QUOTE_GOES_ON;
}

static int feed_value(struct call_quote *q, const struct lexeme *lx, bool opened, size_t at)
{
	struct value_end end;

	if (!value_scan_feed(&q->scan, lx, &end))
		return opened ? push(q, at) : CALL_QUOTE_GOES_ON;
	if (end.tag != LEX_PARAM_END)
		return broken(q, lx->at);
	q->state = CALL_QUOTE_FUNC;
	/* in block form lx is the text that made </parameter> an end */
	return q->scan.block ? feed_func(q, lx) : CALL_QUOTE_GOES_ON;
}

static int feed_after(struct call_quote *q, const struct lexeme *lx, size_t *ret_at)
{
	if (lx->kind == LEX_CALL_END)
		return closed(q, ret_at);
	return lx->kind == LEX_WS || lx->kind == LEX_FUNC ? CALL_QUOTE_GOES_ON : broken(q, lx->at);
}

int call_quote_feed(struct call_quote *q, const struct lexeme *lx, enum call_open_result r,
		    const struct call_open *o, size_t *ret_at)
{
	bool opened = r == CALL_OPEN_DONE;

	if (q->state == CALL_QUOTE_VALUE)
		return feed_value(q, lx, opened && !o->bare, o->at);
	if (q->state == CALL_QUOTE_KEY)
		return feed_key(q, lx);
	if (opened && (!o->bare || q->state == CALL_QUOTE_FUNC))
		return broken(q, o->at);	/* the next call, and no end of this one */
	if (opened)
		q->state = CALL_QUOTE_FUNC;
	if (opened || r == CALL_OPEN_HELD)
		return CALL_QUOTE_GOES_ON;
	if (q->state == CALL_QUOTE_FUNC)
		return feed_func(q, lx);
	return r == CALL_OPEN_FAILED ? broken(q, lx->at) : feed_after(q, lx, ret_at);
}
