/* piece_stream.c - see piece_stream.h. */
#include "worker/weights/piece_stream.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/clock.h"
#include "lib/own.h"

/* Whole blocks of a file around some bytes. */
struct span {
	struct read_file *file;
	uint64_t at;		/* multiples of READ_ALIGN: at, n */
	size_t n, need;		/* need: up to the last byte that is wanted */
	size_t skip;		/* of n, before the first one */
};

struct piece {
	struct weight_ref ref;	/* points into the mapping until it has its place in the ring */
	uint64_t end;		/* of its place */
	uint32_t left;		/* requests in flight */
};

struct piece_stream {
	struct weight_stream base;
	struct piece_files files;
	uint32_t last_file;	/* where the last span was */
	struct read_stats *stats;
	uint64_t begin_ns, bytes;
	struct reader *reader;
	char *ring;
	size_t ring_bytes;
	bool own_ring;
	uint64_t head, tail;	/* of what is taken, counted on and on; the place is % ring_bytes */
	struct piece *pieces;
	size_t n;
	size_t n_sent, n_given, n_done;
	bool placed;		/* piece n_sent has its place, and is cut from there: */
	struct span spans[2];
	char *to[2];
	int cut_span;
	size_t cut_at;
	struct read_request requests[READ_DEPTH], *free;
	struct err why;		/* the first failure */
};

/* ---- spans ------------------------------------------------------------------------------ */

static bool find_file(struct piece_stream *s, const void *data, uint32_t *ret_file, uint64_t *ret_at)
{
	for (uint32_t i = 0; i < s->files.n; i++) {
		uint32_t f = (s->last_file + i) % s->files.n;

		if (st_place(s->files.files[f], data, ret_at)) {
			s->last_file = *ret_file = f;
			return true;
		}
	}
	return false;
}

static int make_span(struct piece_stream *s, const void *data, size_t bytes, struct span *ret)
{
	uint64_t at = 0;
	uint32_t f = 0;

	*ret = (struct span){ 0 };
	if (bytes == 0)
		return 0;
	if (!find_file(s, data, &f, &at))
		return -EINVAL;
	ret->file = st_file(s->files.files[f]);
	ret->at = at / READ_ALIGN * READ_ALIGN;
	ret->skip = (size_t)(at - ret->at);
	ret->need = ret->skip + bytes;
	ret->n = (ret->need + READ_ALIGN - 1) / READ_ALIGN * READ_ALIGN;
	return 0;
}

static int make_spans(struct piece_stream *s, const struct weight_ref *w, struct span ret[2])
{
	size_t scale = weight_is_plain(w->format) ? 0 : weight_scale_bytes(w);
	int r = make_span(s, w->data, weight_data_bytes(w), &ret[0]);

	return r < 0 ? r : make_span(s, w->scale, scale, &ret[1]);
}

/* ---- the ring ------------------------------------------------------------------------------ */

/* n bytes in one run behind what is taken; false: later, when some of it was given back. */
static bool ring_take(struct piece_stream *s, size_t n, char **ret)
{
	if (s->head == s->tail)
		s->head = s->tail = 0;
	size_t place = (size_t)(s->head % s->ring_bytes);
	size_t skip = place + n > s->ring_bytes ? s->ring_bytes - place : 0;

	if (s->head + skip + n - s->tail > s->ring_bytes)
		return false;
	s->head += skip + n;
	*ret = s->ring + (skip ? 0 : place);
	return true;
}

static bool place_piece(struct piece_stream *s, struct piece *p)
{
	char *at;

	/* cannot fail: the same was done when the list came */
	(void)make_spans(s, &p->ref, s->spans);
	if (!ring_take(s, s->spans[0].n + s->spans[1].n, &at))
		return false;
	p->end = s->head;
	s->to[0] = at;
	s->to[1] = at + s->spans[0].n;
	p->ref.data = s->to[0] + s->spans[0].skip;
	if (s->spans[1].n)
		p->ref.scale = s->to[1] + s->spans[1].skip;
	s->cut_span = 0;
	s->cut_at = 0;
	s->placed = true;
	return true;
}

/* ---- requests --------------------------------------------------------------------------------- */

static bool send_request(struct piece_stream *s, struct piece *p)
{
	const struct span *x = &s->spans[s->cut_span];
	struct read_request *q = s->free;
	size_t left = x->n - s->cut_at;

	if (!q)
		return false;
	s->free = q->next;
	*q = (struct read_request){ .file = x->file, .at = x->at + s->cut_at,
				    .to = s->to[s->cut_span] + s->cut_at,
				    .n = left < READ_REQUEST ? left : READ_REQUEST, .owner = p };
	q->need = x->need - s->cut_at < q->n ? x->need - s->cut_at : q->n;
	s->cut_at += q->n;
	s->bytes += q->n;
	p->left++;
	reader_submit(s->reader, q);
	return true;
}

/* As much as there is room and requests for. */
static void send_more(struct piece_stream *s)
{
	while (s->n_sent < s->n && s->why.code == 0) {
		struct piece *p = &s->pieces[s->n_sent];

		if (!s->placed && !place_piece(s, p))
			break;
		if (s->cut_at == s->spans[s->cut_span].n) {
			s->cut_at = 0;
			if (++s->cut_span == 2) {
				s->placed = false;
				s->n_sent++;
			}
			continue;
		}
		if (!send_request(s, p))
			break;
	}
	reader_flush(s->reader);
}

/* False: none was finished, or none is in flight. */
static bool take_one(struct piece_stream *s, bool wait)
{
	struct read_request *q = reader_take(s->reader, wait);

	if (!q)
		return false;
	((struct piece *)q->owner)->left--;
	if (q->result < 0 && s->why.code == 0)
		(void)read_file_failed(q->file, q->result, q->at, q->need, &s->why);
	q->next = s->free;
	s->free = q;
	return true;
}

/* ---- the stream ------------------------------------------------------------------------------- */

static int stream_next(struct weight_stream *base, struct weight_ref *ret, struct err *e)
{
	struct piece_stream *s = (struct piece_stream *)base;
	struct piece *p = &s->pieces[s->n_given];

	if (s->n_given == s->n)
		return err_set(e, -ENOENT, "no more weights were asked for");
	while (take_one(s, false))
		;
	send_more(s);
	while (s->why.code == 0 && (s->n_sent <= s->n_given || p->left)) {
		if (!take_one(s, true))
			return err_set(e, -ENOBUFS, "%s: no room: too many weights are held", p->ref.name);
		send_more(s);
	}
	if (s->why.code)
		return err_set(e, s->why.code, "%s", s->why.text);
	s->n_given++;
	*ret = p->ref;
	return 0;
}

static void stream_done(struct weight_stream *base)
{
	struct piece_stream *s = (struct piece_stream *)base;

	if (s->n_done == s->n_given)
		return;
	s->n_done = s->n_given;
	s->tail = s->pieces[s->n_done - 1].end;
	send_more(s);
}

static void drop_behind(struct piece_stream *s)
{
	s->stats->n_buffered = 0;
	for (uint32_t i = 0; i < s->files.n; i++) {
		struct read_file *f = st_file(s->files.files[i]);

		if (!f || atomic_load(&f->direct))
			continue;
		s->stats->n_buffered++;
		read_file_drop(f, 0, 0);
	}
}

static void stream_close(struct weight_stream *base)
{
	struct piece_stream *s = (struct piece_stream *)base;

	if (s->reader) {
		s->stats->how = s->reader->ops->how;
		memcpy(s->stats->note, s->reader->note, sizeof(s->stats->note));
	}
	reader_close(s->reader);
	drop_behind(s);
	s->stats->bytes += s->bytes;
	s->stats->ns += clock_ns() - s->begin_ns;
	if (s->own_ring)
		munmap(s->ring, s->ring_bytes);
	free(s->pieces);
	free(s);
}

static const struct weight_stream_ops ops = { stream_next, stream_done, stream_close };

static void stream_closep(struct piece_stream **s)
{
	if (*s)
		stream_close(&(*s)->base);
}

static int add_piece(struct piece_stream *s, const struct weight_source *w, const struct weight_piece *p,
		     struct err *e)
{
	struct weight_ref whole, *ref = &s->pieces[s->n].ref;
	struct span spans[2];

	if (w->find(w->ctx, p->slot, p->layer, p->expert, &whole) < 0)
		return err_set(e, -EINVAL, "layer %u: no %s", p->layer, weight_slot_name(p->slot));
	if (weight_rows(&whole, p->first, p->rows, ref) < 0 || make_spans(s, ref, spans) < 0)
		return err_set(e, -EINVAL, "%s: no piece of %u rows at %u", whole.name, p->rows, p->first);
	if (spans[0].n + spans[1].n > s->ring_bytes / 2)
		return err_set(e, -E2BIG, "%s: a piece of %zu bytes, and room for %zu", whole.name,
			       spans[0].n + spans[1].n, s->ring_bytes / 2);
	s->n++;
	return 0;
}

static int take_room(struct piece_stream *s, const struct weight_room *room, struct err *e)
{
	s->ring_bytes = room->bytes / READ_ALIGN * READ_ALIGN;
	s->ring = room->p;
	if (s->ring)
		return 0;
	void *p = mmap(NULL, s->ring_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return err_set(e, -ENOMEM, "no %zu bytes to read the weights into", s->ring_bytes);
	/* a read of 512 KiB then pins one page instead of 128 */
	(void)madvise(p, s->ring_bytes, MADV_HUGEPAGE);
	s->ring = p;
	s->own_ring = true;
	return 0;
}

int piece_stream_open(const struct weight_source *w, const struct piece_files *files, enum read_how how,
		      struct read_stats *stats, const struct weight_piece *pieces, size_t n,
		      const struct weight_room *room, struct weight_stream **ret, struct err *e)
{
	CLEANUP(stream_closep) struct piece_stream *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->base.ops = &ops;
	s->files = *files;
	s->stats = stats;
	s->begin_ns = clock_ns();
	int r = take_room(s, room, e);
	if (r == 0)
		r = reader_open(how, &s->reader, e);
	if (r == 0 && !(s->pieces = calloc(n + 1, sizeof(s->pieces[0]))))
		r = err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_piece(s, w, &pieces[i], e);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < READ_DEPTH; i++) {
		s->requests[i].next = s->free;
		s->free = &s->requests[i];
	}
	stats->n_streams++;
	struct piece_stream *done = TAKE(s);
	*ret = &done->base;
	return 0;
}
