/* weight_stream.h - a model's weights in the order in which a back end wants them, read ahead.
 *
 * find() of a weight_source says what a weight is and where it can be read at random.  A stream brings
 * the bytes: the back end lists the pieces it will want, in its own order, and takes them one by one
 * while the source reads those that follow, past the page cache and many at a time, into a
 * room of fixed size.
 *
 *	list pieces -> weight_stream_open -> { weight_stream_next, use, weight_stream_done } ... -> close
 *
 * A piece is rows of one matrix (or a whole vector); its ref has the rows of the piece, and its
 * `data` and `scale` point into the room.  They are readable until weight_stream_done(), which says
 * that nothing handed out so far is looked at any more.  Several pieces may be held at a time (gate and
 * up of an expert): as long as they fit into half of the room there is always a next one.
 *
 * A source without a stream of its own (random models of tests) works just as well: pieces then
 * point to where find() says.  One whose find() says `streamed` (kernels/dummy.h) has a stream.
 *
 * Thread: one at a time.
 */
#ifndef HEARTH_KERNELS_WEIGHT_STREAM_H
#define HEARTH_KERNELS_WEIGHT_STREAM_H

#include "kernels/model.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weight_piece {
	enum weight_slot slot;
	uint32_t layer, expert;
	uint32_t first, rows;	/* of the matrix; where scales cover several rows, whole blocks of them */
};

/* Where the pieces lie.  p NULL: `bytes` of anonymous memory that the stream takes and frees.  A caller
 * that copies on to a device gives pinned memory, aligned to WEIGHT_ALIGN, that stays his. */
struct weight_room {
	void *p;
	size_t bytes;
};

#define WEIGHT_ALIGN	4096u
#define WEIGHT_ROOM	((size_t)64 << 20)	/* enough for reads in flight beside a piece in use */
#define WEIGHT_PIECE	((size_t)4 << 20)	/* what to cut large matrices into */

struct weight_stream_ops {
	int (*next)(struct weight_stream *s, struct weight_ref *ret, struct err *e);
	void (*done)(struct weight_stream *s);
	void (*close)(struct weight_stream *s);
};

struct weight_stream {
	const struct weight_stream_ops *ops;
};

/* `pieces` is copied.  -EINVAL: a piece that is not in the model or not whole blocks; -E2BIG: one that does
 * not fit into half of the room; -ENOMEM; -ENOTSUP: no way to read (options). */
int weight_stream_open(const struct weight_source *w, const struct weight_piece *pieces, size_t n,
		       const struct weight_room *room, struct weight_stream **ret, struct err *e);

/* The next piece of the list; waits for its bytes.  -EIO and other errors of a read, -ENODATA: the file
 * is shorter than when it was opened (both: one line with file and place, and so for every call from
 * then on); -ENOENT: behind the last; -ENOBUFS: too much is held. */
int weight_stream_next(struct weight_stream *s, struct weight_ref *ret, struct err *e);
void weight_stream_done(struct weight_stream *s);
/* Waits for reads in flight: nobody writes into the room afterwards.  NULL ok. */
struct weight_stream *weight_stream_close(struct weight_stream *s);

/* `n` rows of w from `first` on; NULL stays NULL.  -EINVAL: outside, or no whole blocks of
 * scales. */
int weight_rows(const struct weight_ref *w, uint32_t first, uint32_t n, struct weight_ref *ret);
/* Rows of a piece of w of at most `bytes` (one block of rows at least): a multiple of 128, or all. */
uint32_t weight_piece_rows(const struct weight_ref *w, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
