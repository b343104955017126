/* safetensors.h - one file of tensors.
 *
 * A file is 8 bytes of header length n (little-endian), n bytes of JSON that map a name to
 * dtype, shape and [begin, end) behind the header, then the data.  Everything is checked
 * when the file is opened: a tensor that can be found lies inside the file, has the bytes
 * its shape and dtype ask for, shares none of them with another, and no byte of the data is nobody's.
 *
 * The header is read past the page cache.  The data is mapped, and nothing here looks at it: `data`
 * of a tensor is where it can be read at random (through the page cache; a file that is
 * truncated by someone else while it is open then ends the process, SIGBUS, as with any mapping), and
 * st_place() says where it lies in the file, for those who read it otherwise.
 *
 * Thread: an open file is read-only, any thread may look things up; st_read() from one at a time.
 */
#ifndef HEARTH_WORKER_WEIGHTS_SAFETENSORS_H
#define HEARTH_WORKER_WEIGHTS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"
#include "worker/weights/read_file.h"

#define ST_MAX_DIMS 8
#define ST_MAX_HEADER (100u << 20)	/* the limit of the reference implementation */

struct st_tensor {
	const char *name;
	char dtype[12];			/* "BF16", "F32", ... as the file spells it */
	uint32_t n_dims;
	uint64_t dim[ST_MAX_DIMS];
	const void *data;
	uint64_t bytes;
};

struct st_file;

/* -ENOENT and other errors of open; -EINVAL: not a valid file; -ENOMEM. */
int st_open(const char *path, struct st_file **ret, struct err *e);
/* The same over bytes that the caller keeps alive; `path` is for messages. */
int st_open_memory(const char *path, const void *p, uint64_t n, struct st_file **ret,
		   struct err *e);
struct st_file *st_close(struct st_file *f);	/* NULL ok */

const char *st_path(const struct st_file *f);
uint32_t st_count(const struct st_file *f);
const struct st_tensor *st_at(const struct st_file *f, uint32_t i);	/* by name, ascending */
const struct st_tensor *st_find(const struct st_file *f, const char *name);	/* or NULL */

/* The file itself; NULL when the bytes are the caller's. */
struct read_file *st_file(const struct st_file *f);
/* True when `data` points into this file, which then is at byte *ret_at of it. */
bool st_place(const struct st_file *f, const void *data, uint64_t *ret_at);
/* The first n bytes of a tensor, n <= t->bytes, past the page cache.  Errors of read_file_pread(). */
int st_read(const struct st_file *f, const struct st_tensor *t, void *to, size_t n, struct err *e);
/* What was read through the mapping leaves the page cache. */
void st_drop(const struct st_file *f);

/* Bytes of one element, 0 for a dtype that is not known here. */
uint32_t st_dtype_bytes(const char *dtype);

#endif
