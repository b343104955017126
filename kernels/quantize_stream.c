/* quantize_stream.c - the bytes of a source that converts: pieces of another stream, some of them on
 * their way through FP8.  See quantize.h. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/dequant.h"
#include "kernels/cpu/pool.h"
#include "kernels/e4m3.h"
#include "kernels/quantize_int.h"
#include "kernels/weight_stream.h"
#include "lib/own.h"

#define MAX_TASKS 32	/* threads too: more only wait for memory */

/* ---- conversion ------------------------------------------------------------------ */

struct conversion {
	const struct weight_ref *w;
	uint8_t *codes;
	float *scales;
	uint32_t n_tasks;
	struct {
		bool no_memory, bad;
		uint32_t row;
		size_t col;
	} task[MAX_TASKS];
};

static void read_row(const struct weight_ref *w, uint32_t row, float *ret)
{
	const char *p = (const char *)w->data + weight_row_bytes(w->format, w->cols) * row;

	for (uint32_t i = 0; w->format == WF_BF16 && i < w->cols; i++) {
		uint16_t half;

		memcpy(&half, p + 2 * (size_t)i, sizeof(half));
		ret[i] = dequant_bf16(half);
	}
	for (uint32_t i = 0; w->format != WF_BF16 && i < w->cols; i++)
		ret[i] = dequant_element(p, w->format, i);
}

static void convert_rows(void *ctx, uint32_t task)
{
	struct conversion *c = ctx;
	const struct weight_ref *w = c->w;
	uint32_t first = (uint32_t)((uint64_t)w->rows * task / c->n_tasks);
	uint32_t end = (uint32_t)((uint64_t)w->rows * (task + 1) / c->n_tasks);
	CLEANUP(freep) float *x = malloc((size_t)w->cols * sizeof(*x));

	c->task[task].no_memory = !x;
	for (uint32_t r = first; x && r < end; r++) {
		read_row(w, r, x);
		size_t n = e4m3_row(x, w->cols, c->codes + (size_t)r * w->cols, &c->scales[r]);
		if (n < w->cols) {
			c->task[task].bad = true;
			c->task[task].row = r;
			c->task[task].col = n;
			return;
		}
	}
}

/* `first`: the row of the matrix at which w begins, for messages. */
static int convert(struct pool *pool, const struct weight_ref *w, uint32_t first, uint8_t *codes,
		   float *scales, struct err *e)
{
	struct conversion c = { .w = w, .codes = codes, .scales = scales };
	uint32_t most = pool_threads(pool) < MAX_TASKS ? pool_threads(pool) : MAX_TASKS;

	c.n_tasks = w->rows < most ? w->rows : most;
	pool_run(pool, convert_rows, &c, c.n_tasks);
	for (uint32_t i = 0; i < c.n_tasks; i++) {
		if (c.task[i].no_memory)
			return err_set(e, -ENOMEM, "out of memory");
		if (c.task[i].bad)
			return weight_in_file(w->file, err_set(e, -EINVAL, "%s: [%u, %zu] is not "
					      "finite and cannot become FP8", w->name,
					      first + c.task[i].row, c.task[i].col), e);
	}
	return 0;
}

/* ---- the stream ------------------------------------------------------------------ */

/* A piece of the caller's list is one of the inner stream, or, when it is converted, several. */
struct outer {
	uint32_t n_inner, each;		/* of so many rows, the last of fewer */
	bool convert;
	uint32_t first, rows, cols;
};

/* Where a converted piece stands until it is done with: codes, then scales. */
struct shelf {
	char *p;
	size_t bytes;
};

struct quantized_stream {
	struct weight_stream base;
	struct weight_stream *inner;
	struct pool *pool;
	struct outer *pieces;
	size_t n, at;
	struct shelf *shelves;
	size_t n_shelves, n_taken;
	bool lent;		/* something of the inner stream's own is looked at */
	struct err why;		/* the first failure */
};

/* Room for a converted piece; the scales stand in front, where they are aligned. */
static int take_shelf(struct quantized_stream *s, size_t bytes, char **ret, struct err *e)
{
	if (s->n_taken == s->n_shelves) {
		struct shelf *more = realloc(s->shelves, (s->n_shelves + 1) * sizeof(*more));

		if (!more)
			return err_set(e, -ENOMEM, "out of memory");
		s->shelves = more;
		s->shelves[s->n_shelves++] = (struct shelf){ NULL, 0 };
	}
	struct shelf *x = &s->shelves[s->n_taken];
	if (x->bytes < bytes) {
		free(x->p);
		x->p = malloc(bytes);
		x->bytes = x->p ? bytes : 0;
		if (!x->p)
			return err_set(e, -ENOMEM, "no %zu bytes to convert weights in", bytes);
	}
	s->n_taken++;
	*ret = x->p;
	return 0;
}

static int next_converted(struct quantized_stream *s, const struct outer *o, struct weight_ref *ret,
			  struct err *e)
{
	struct weight_ref part;
	uint32_t done = 0;
	char *p = NULL;
	int r = take_shelf(s, o->rows * (o->cols + sizeof(float)), &p, e);

	if (r < 0)
		return r;
	float *scales = (float *)(void *)p;
	uint8_t *codes = (uint8_t *)(scales + o->rows);
	for (uint32_t i = 0; i < o->n_inner; i++, done += part.rows) {
		r = weight_stream_next(s->inner, &part, e);
		if (r < 0)
			return r;
		r = convert(s->pool, &part, o->first + done, codes + (size_t)done * o->cols,
			    scales + done, e);
		if (r < 0)
			return r;
		if (!s->lent)	/* more can be read meanwhile */
			weight_stream_done(s->inner);
	}
	*ret = quantized_ref(&part);
	ret->rows = o->rows;
	ret->data = codes;
	ret->scale = scales;
	ret->streamed = false;
	return 0;
}

static int quantized_next(struct weight_stream *base, struct weight_ref *ret, struct err *e)
{
	struct quantized_stream *s = (struct quantized_stream *)base;
	int r;

	if (s->why.code)
		return err_set(e, s->why.code, "%s", s->why.text);
	if (s->at == s->n)
		return err_set(e, -ENOENT, "no more weights were asked for");
	const struct outer *o = &s->pieces[s->at];
	r = o->convert ? next_converted(s, o, ret, &s->why) :
			 weight_stream_next(s->inner, ret, &s->why);
	if (r < 0)
		return err_set(e, s->why.code, "%s", s->why.text);
	s->lent |= !o->convert;
	s->at++;
	return 0;
}

static void quantized_done(struct weight_stream *base)
{
	struct quantized_stream *s = (struct quantized_stream *)base;

	weight_stream_done(s->inner);
	s->lent = false;
	s->n_taken = 0;
}

static void quantized_close(struct weight_stream *base)
{
	struct quantized_stream *s = (struct quantized_stream *)base;

	weight_stream_close(s->inner);
	pool_free(s->pool);
	for (size_t i = 0; i < s->n_shelves; i++)
		free(s->shelves[i].p);
	free(s->shelves);
	free(s->pieces);
	free(s);
}

static const struct weight_stream_ops ops = { quantized_next, quantized_done, quantized_close };

static void stream_closep(struct quantized_stream **s)
{
	if (*s)
		quantized_close(&(*s)->base);
}

/* ---- opening --------------------------------------------------------------------- */

/* How a piece is read.  One that is converted is cut by its bytes as they are read, four times as
 * many from F32 as it will have. */
static int describe(const struct quantized *q, const struct weight_piece *p, struct outer *ret,
		    struct err *e)
{
	struct weight_ref w;

	if (q->inner->find(q->inner->ctx, p->slot, p->layer, p->expert, &w) < 0)
		return err_set(e, -EINVAL, "layer %u: no %s", p->layer, weight_slot_name(p->slot));
	if (p->rows == 0 || p->first > w.rows || p->rows > w.rows - p->first)
		return err_set(e, -EINVAL, "%s: no piece of %u rows at %u", w.name, p->rows,
			       p->first);
	*ret = (struct outer){ .convert = quantized_takes(q, p->slot, &w), .first = p->first,
			       .rows = p->rows, .cols = w.cols, .each = p->rows };
	if (ret->convert)
		ret->each = weight_piece_rows(&w, WEIGHT_PIECE);
	ret->n_inner = (p->rows - 1) / ret->each + 1;
	return 0;
}

/* The inner stream's list, of n pieces. */
static struct weight_piece *split(const struct quantized_stream *s,
				  const struct weight_piece *pieces, size_t n)
{
	struct weight_piece *ret = calloc(n + 1, sizeof(*ret)), *to = ret;

	for (size_t i = 0; ret && i < s->n; i++)
		for (uint32_t at = 0; at < pieces[i].rows; at += s->pieces[i].each, to++) {
			uint32_t left = pieces[i].rows - at, each = s->pieces[i].each;

			*to = pieces[i];
			to->first += at;
			to->rows = left < each ? left : each;
		}
	return ret;
}

static uint32_t processors(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	return CPU_COUNT(&set) < MAX_TASKS ? (uint32_t)CPU_COUNT(&set) : MAX_TASKS;
}

int quantized_open(void *ctx, const struct weight_piece *pieces, size_t n,
			  const struct weight_room *room, struct weight_stream **ret, struct err *e)
{
	CLEANUP(stream_closep) struct quantized_stream *s = calloc(1, sizeof(*s));
	CLEANUP(freep) struct weight_piece *list = NULL;
	const struct quantized *q = ctx;
	size_t n_inner = 0;
	int r = 0;

	if (!s || !(s->pieces = calloc(n + 1, sizeof(*s->pieces))))
		return err_set(e, -ENOMEM, "out of memory");
	s->base.ops = &ops;
	for (; r == 0 && s->n < n; s->n++) {
		r = describe(q, &pieces[s->n], &s->pieces[s->n], e);
		n_inner += s->pieces[s->n].n_inner;
	}
	if (r == 0 && !(list = split(s, pieces, n_inner)))
		r = err_set(e, -ENOMEM, "out of memory");
	if (r == 0 && pool_new(processors(), &s->pool) < 0)
		r = err_set(e, -ENOMEM, "no threads to convert weights with");
	if (r == 0)
		r = weight_stream_open(q->inner, list, n_inner, room, &s->inner, e);
	if (r < 0)
		return r;
	*ret = &TAKE(s)->base;
	return 0;
}
