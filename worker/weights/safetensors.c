/* safetensors.c - one file of tensors: see safetensors.h. */
#include "worker/weights/safetensors.h"

#include <string.h>
#include <sys/mman.h>

#include "lib/json.h"
#include "lib/own.h"

struct st_file {
	char *path;
	struct read_file *file;		/* NULL when the bytes are the caller's */
	void *map;			/* of all of it; likewise */
	uint64_t map_bytes;
	json_t *header;			/* owns the names */
	struct st_tensor *tensors;	/* sorted by name */
	uint32_t n;
};

uint32_t st_dtype_bytes(const char *dtype)
{
	static const struct {
		char name[12];
		uint32_t bytes;
	} known[] = {
		{ "F64", 8 }, { "I64", 8 }, { "U64", 8 }, { "F32", 4 }, { "I32", 4 }, { "U32", 4 },
		{ "BF16", 2 }, { "F16", 2 }, { "I16", 2 }, { "U16", 2 }, { "I8", 1 }, { "U8", 1 },
		{ "BOOL", 1 }, { "F8_E4M3", 1 }, { "F8_E5M2", 1 }, { "F8_E8M0", 1 },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i].name, dtype) == 0)
			return known[i].bytes;
	return 0;
}

static int bad(const struct st_file *f, const char *tensor, const char *what, struct err *e)
{
	return err_set(e, -EINVAL, "%s: tensor %s: %s", f->path, tensor, what);
}

static int read_shape(const struct st_file *f, const json_t *shape, struct st_tensor *t,
		      uint64_t *ret_elements, struct err *e)
{
	uint64_t n = 1;

	if (!json_is_array(shape) || json_array_size(shape) > ST_MAX_DIMS)
		return bad(f, t->name, "'shape' is not a list of at most 8 numbers", e);
	t->n_dims = (uint32_t)json_array_size(shape);
	for (uint32_t i = 0; i < t->n_dims; i++) {
		int64_t d;

		if (jx_int64(json_array_get(shape, i), &d) < 0 || d < 0)
			return bad(f, t->name, "a dimension is not a whole number", e);
		t->dim[i] = (uint64_t)d;
		if (__builtin_mul_overflow(n, (uint64_t)d, &n))
			return bad(f, t->name, "the shape has more elements than 64 bits count", e);
	}
	*ret_elements = n;
	return 0;
}

static int read_entry(const struct st_file *f, const json_t *v, const char *data,
		      uint64_t data_bytes, struct st_tensor *t, struct err *e)
{
	size_t n_dtype;
	const char *dtype = jx_str(json_object_get(v, "dtype"), &n_dtype);
	const json_t *offsets = json_object_get(v, "data_offsets");
	uint64_t elements = 0, want;
	int64_t begin, end;

	if (!dtype || n_dtype == 0 || n_dtype >= sizeof(t->dtype) || strlen(dtype) != n_dtype)
		return bad(f, t->name, "'dtype' is missing or not a type name", e);
	memcpy(t->dtype, dtype, n_dtype + 1);
	int r = read_shape(f, json_object_get(v, "shape"), t, &elements, e);
	if (r < 0)
		return r;
	if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
	    jx_int64(json_array_get(offsets, 0), &begin) < 0 ||
	    jx_int64(json_array_get(offsets, 1), &end) < 0 || begin < 0 || end < begin)
		return bad(f, t->name, "'data_offsets' is not [begin, end]", e);
	t->bytes = (uint64_t)(end - begin);
	if ((uint64_t)end > data_bytes)
		return err_set(e, -EINVAL,
			       "%s: tensor %s ends at byte %lld of the data, the file has only %llu "
			       "(truncated?)", f->path, t->name, (long long)end,
			       (unsigned long long)data_bytes);
	uint32_t size = st_dtype_bytes(t->dtype);
	if (size && (__builtin_mul_overflow(elements, size, &want) || want != t->bytes))
		return err_set(e, -EINVAL,
			       "%s: tensor %s: shape and dtype %s do not make its %llu bytes", f->path,
			       t->name, t->dtype, (unsigned long long)t->bytes);
	t->data = data + begin;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct st_tensor *)a)->name, ((const struct st_tensor *)b)->name);
}

static int by_place(const void *a, const void *b)
{
	const struct st_tensor *x = a, *y = b;

	if (x->data != y->data)
		return (const char *)x->data < (const char *)y->data ? -1 : 1;
	return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* The n bytes of data are the tensors' and each byte is one's: the format allows no holes.  Without this
 * rule a name given twice, or a download glued together from two tries, would be numbers that
 * nobody wrote. */
static int check_cover(const struct st_file *f, const char *data, uint64_t n, struct err *e)
{
	const char *end = data;

	qsort(f->tensors, f->n, sizeof(f->tensors[0]), by_place);
	for (uint32_t i = 0; i < f->n; i++) {
		const struct st_tensor *t = &f->tensors[i];
		const char *at = t->data;

		if (at < end)
			return err_set(e, -EINVAL, "%s: tensors %s and %s overlap", f->path,
				       f->tensors[i - 1].name, t->name);
		if (at > end)
			return err_set(e, -EINVAL, "%s: %llu bytes before tensor %s belong to no tensor",
				       f->path, (unsigned long long)(at - end), t->name);
		end = at + t->bytes;
	}
	if (end != data + n)
		return err_set(e, -EINVAL, "%s: the last %llu bytes belong to no tensor", f->path,
			       (unsigned long long)(data + n - end));
	return 0;
}

/* What the first eight bytes say. */
static int header_bytes(const struct st_file *f, const unsigned char b[8], uint64_t n, uint64_t *ret,
			struct err *e)
{
	uint64_t len = 0;

	for (int i = 7; i >= 0; i--)
		len = len << 8 | b[i];
	if (memcmp(b, "version ", 8) == 0)
		return err_set(e, -EINVAL, "%s: a Git LFS pointer, not the file; 'git lfs pull' fetches it",
			       f->path);
	if (len > n - 8 || len > ST_MAX_HEADER)
		return err_set(e, -EINVAL, "%s: header of %llu bytes in a file of %llu (limit %u)",
			       f->path, (unsigned long long)len, (unsigned long long)n, ST_MAX_HEADER);
	*ret = len;
	return 0;
}

static int too_short(const char *path, uint64_t n, struct err *e)
{
	return err_set(e, -EINVAL, "%s: %llu bytes are too few for a safetensors file", path,
		       (unsigned long long)n);
}

/* The header's text, and the n bytes of data behind it, which are not looked at. */
static int read_header(struct st_file *f, const char *text, uint64_t len, const char *data, uint64_t n,
		       struct err *e)
{
	const char *name;
	json_t *v;

	int r = jx_load(text, (size_t)len, &f->header, e);
	if (r < 0)
		return err_prefix(e, r, "%s: header", f->path);
	if (!json_is_object(f->header))
		return err_set(e, -EINVAL, "%s: the header is not a JSON object", f->path);
	f->tensors = calloc(json_object_size(f->header) + 1, sizeof(f->tensors[0]));
	if (!f->tensors)
		return err_set(e, -ENOMEM, "out of memory");
	json_object_foreach(f->header, name, v) {
		if (strcmp(name, "__metadata__") == 0)
			continue;
		f->tensors[f->n].name = name;
		r = read_entry(f, v, data, n, &f->tensors[f->n], e);
		if (r < 0)
			return r;
		f->n++;
	}
	r = check_cover(f, data, n, e);
	qsort(f->tensors, f->n, sizeof(f->tensors[0]), by_name);
	return r;
}

static void st_closep(struct st_file **f)
{
	st_close(*f);
}

static struct st_file *new_file(const char *path)
{
	struct st_file *f = calloc(1, sizeof(*f));

	if (f && !(f->path = strdup(path)))
		return st_close(f);
	return f;
}

int st_open_memory(const char *path, const void *p, uint64_t n, struct st_file **ret,
		   struct err *e)
{
	CLEANUP(st_closep) struct st_file *f = new_file(path);
	const char *b = p;
	uint64_t len = 0;

	if (!f)
		return err_set(e, -ENOMEM, "out of memory");
	if (n < 8)
		return too_short(path, n, e);
	int r = header_bytes(f, p, n, &len, e);
	if (r == 0)
		r = read_header(f, b + 8, len, b + 8 + len, n - 8 - len, e);
	if (r < 0)
		return r;
	*ret = TAKE(f);
	return 0;
}

static int map_file(struct st_file *f, struct err *e)
{
	void *map = mmap(NULL, (size_t)f->file->bytes, PROT_READ, MAP_PRIVATE, f->file->fd, 0);

	if (map == MAP_FAILED)
		return err_set(e, -errno, "%s: mmap: %s", f->path, strerror(errno));
	f->map = map;
	f->map_bytes = f->file->bytes;
	return 0;
}

int st_open(const char *path, struct st_file **ret, struct err *e)
{
	CLEANUP(st_closep) struct st_file *f = new_file(path);
	CLEANUP(freep) char *text = NULL;
	unsigned char first[8];
	uint64_t len = 0, n;

	if (!f)
		return err_set(e, -ENOMEM, "out of memory");
	int r = read_file_open(path, &f->file, e);
	if (r < 0)
		return r;
	n = f->file->bytes;
	if (n < 8)
		return too_short(path, n, e);
	r = read_file_pread(f->file, 0, first, 8, e);
	if (r == 0)
		r = header_bytes(f, first, n, &len, e);
	if (r < 0)
		return r;
	text = malloc((size_t)len + 1);
	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	r = read_file_pread(f->file, 8, text, (size_t)len, e);
	if (r == 0)
		r = map_file(f, e);
	if (r == 0)
		r = read_header(f, text, len, (const char *)f->map + 8 + len, n - 8 - len, e);
	if (r < 0)
		return r;
	*ret = TAKE(f);
	return 0;
}

struct read_file *st_file(const struct st_file *f)
{
	return f->file;
}

bool st_place(const struct st_file *f, const void *data, uint64_t *ret_at)
{
	uintptr_t at = (uintptr_t)data - (uintptr_t)f->map;

	if (!f->map || (uintptr_t)data < (uintptr_t)f->map || at >= f->map_bytes)
		return false;
	*ret_at = at;
	return true;
}

int st_read(const struct st_file *f, const struct st_tensor *t, void *to, size_t n, struct err *e)
{
	uint64_t at;

	if (st_place(f, t->data, &at))
		return read_file_pread(f->file, at, to, n, e);
	memcpy(to, t->data, n);
	return 0;
}

void st_drop(const struct st_file *f)
{
	if (!f->map)
		return;
	(void)madvise(f->map, (size_t)f->map_bytes, MADV_DONTNEED);
	read_file_drop(f->file, 0, 0);
}

struct st_file *st_close(struct st_file *f)
{
	if (!f)
		return NULL;
	if (f->map)
		munmap(f->map, (size_t)f->map_bytes);
	read_file_close(f->file);
	json_decref(f->header);
	free(f->tensors);
	free(f->path);
	free(f);
	return NULL;
}

const char *st_path(const struct st_file *f)
{
	return f->path;
}

uint32_t st_count(const struct st_file *f)
{
	return f->n;
}

const struct st_tensor *st_at(const struct st_file *f, uint32_t i)
{
	return i < f->n ? &f->tensors[i] : NULL;
}

const struct st_tensor *st_find(const struct st_file *f, const char *name)
{
	struct st_tensor key = { .name = name };

	return bsearch(&key, f->tensors, f->n, sizeof(f->tensors[0]), by_name);
}
