/* piece_stream.h - pieces of tensors, read from their files in the order that somebody wants.
 *
 * What stands behind the weight_stream of a checkpoint.  Each piece is one or two spans of a file (data,
 * scales), widened to whole blocks of READ_ALIGN since tensors begin anywhere; they lie one behind the
 * other in a ring, and as many of them are in flight as the ring holds.
 */
#ifndef HEARTH_WORKER_WEIGHTS_PIECE_STREAM_H
#define HEARTH_WORKER_WEIGHTS_PIECE_STREAM_H

#include "kernels/weight_stream.h"
#include "worker/weights/reader.h"
#include "worker/weights/safetensors.h"

/* What was read, for a person. */
struct read_stats {
	enum read_how how;	/* READ_MAPPED: nothing was, but through find() */
	uint64_t bytes;		/* asked of the kernel */
	uint64_t ns;		/* from open to close */
	uint32_t n_streams;
	uint32_t n_buffered;	/* files that could not be read with O_DIRECT */
	char note[96];		/* why not by io_uring, where that was not chosen */
};

struct piece_files {
	struct st_file *const *files;
	uint32_t n;
};

/* As weight_stream_open(); pieces come from `w`, whose refs point into the mappings of `files`.  Both
 * and `stats`, which is added to at close, outlive the stream. */
int piece_stream_open(const struct weight_source *w, const struct piece_files *files, enum read_how how,
		      struct read_stats *stats, const struct weight_piece *pieces, size_t n,
		      const struct weight_room *room, struct weight_stream **ret, struct err *e);

#endif
