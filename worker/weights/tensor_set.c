/* tensor_set.c - see tensor_set.h. */
#include "worker/weights/tensor_set.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/buf.h"
#include "lib/json.h"
#include "lib/own.h"

#define MAX_INDEX (64u << 20)
#define MAX_FILES 4096

/* ---- names ----------------------------------------------------------------- */

static bool starts(const char *s, const char *prefix, const char **ret_rest)
{
	size_t n = strlen(prefix);

	if (strncmp(s, prefix, n) != 0)
		return false;
	*ret_rest = s + n;
	return true;
}

const char *tensor_canonical(const char *name)
{
	static const char *const prefixes[] = { "model.language_model.", "language_model.model.",
						"language_model.", "model." };

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (starts(name, prefixes[i], &name))
			break;
	return strncmp(name, "visual.", 7) == 0 ? NULL : name;
}

void tensor_print_shape(const struct st_tensor *t, char *buf, size_t room)
{
	size_t n = (size_t)snprintf(buf, room, "[");

	for (uint32_t i = 0; i < t->n_dims && n < room; i++)
		n += (size_t)snprintf(buf + n, room - n, "%s%llu", i ? ", " : "",
				      (unsigned long long)t->dim[i]);
	if (n < room)
		snprintf(buf + n, room - n, "]");
}

static int by_canon(const void *a, const void *b)
{
	return strcmp(((const struct tensor *)a)->canon, ((const struct tensor *)b)->canon);
}

struct tensor *tensor_set_find(const struct tensor_set *s, const char *canon)
{
	struct tensor key = { .canon = canon };

	return bsearch(&key, s->tensors, s->n_tensors, sizeof(s->tensors[0]), by_canon);
}

struct tensor *tensor_set_below(const struct tensor_set *s, const char *prefix, uint32_t *ret_n)
{
	size_t len = strlen(prefix);
	uint32_t lo = 0, hi = s->n_tensors;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (strcmp(s->tensors[mid].canon, prefix) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (hi = lo; hi < s->n_tensors && strncmp(s->tensors[hi].canon, prefix, len) == 0; hi++)
		;
	*ret_n = hi - lo;
	return s->tensors + lo;
}

/* ---- files ----------------------------------------------------------------- */

static int add_file(struct tensor_set *s, const char *name, struct err *e)
{
	CLEANUP(buf_donep) struct buf path = BUF_INIT;

	if (s->n_files == MAX_FILES)
		return err_set(e, -EINVAL, "%s: more than %d files of weights", s->dir, MAX_FILES);
	if (buf_printf(&path, "%s/%s", s->dir, name) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < s->n_files; i++)
		if (strcmp(st_path(s->files[i]), path.p) == 0)
			return 0;
	int r = st_open(path.p, &s->files[s->n_files], e);
	if (r == 0)
		s->n_files++;
	return r;
}

/* The name is there.  Whether the file can be read is found when it is opened: a link of the hub's cache
 * whose blob is gone, or a file of another user, is broken and not absent. */
static bool exists(const struct tensor_set *s, const char *name)
{
	CLEANUP(buf_donep) struct buf path = BUF_INIT;
	struct stat st;

	return buf_printf(&path, "%s/%s", s->dir, name) == 0 && lstat(path.p, &st) == 0;
}

static const struct st_file *file_named(const struct tensor_set *s, const char *name)
{
	size_t n = strlen(s->dir);

	for (uint32_t i = 0; i < s->n_files; i++)
		if (strcmp(st_path(s->files[i]) + n + 1, name) == 0)
			return s->files[i];
	return NULL;
}

static int open_index(struct tensor_set *s, struct err *e)
{
	CLEANUP(buf_donep) struct buf path = BUF_INIT;
	JX_OWNED json_t *top = NULL;
	const char *tensor;
	json_t *v, *map;

	if (buf_printf(&path, "%s/model.safetensors.index.json", s->dir) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	int r = jx_load_file(path.p, MAX_INDEX, &top, e);
	if (r < 0)
		return r;
	map = json_object_get(top, "weight_map");
	if (!json_is_object(map))
		return err_set(e, -EINVAL, "%s: no 'weight_map'", path.p);
	json_object_foreach(map, tensor, v) {
		const char *shard = jx_str(v, NULL);

		if (!shard || !shard[0] || strchr(shard, '/') || shard[0] == '.')
			return err_set(e, -EINVAL, "%s: tensor %s: not the name of a file in this folder",
				       path.p, tensor);
		const struct st_file *f = file_named(s, shard);
		if (!f) {
			r = add_file(s, shard, e);
			if (r < 0)
				return err_prefix(e, r == -ENOENT ? -EINVAL : r, "%s: tensor %s", path.p,
						  tensor);
			f = s->files[s->n_files - 1];
		}
		if (!st_find(f, tensor))
			return err_set(e, -EINVAL, "%s: tensor %s is not in %s, where the index puts it",
				       path.p, tensor, st_path(f));
	}
	return 0;
}

static int open_files(struct tensor_set *s, struct err *e)
{
	static const char *const extra[] = { "mtp.safetensors", "model_extra_tensors.safetensors" };
	int r;

	s->files = calloc(MAX_FILES, sizeof(s->files[0]));
	if (!s->files)
		return err_set(e, -ENOMEM, "out of memory");
	if (exists(s, "model.safetensors.index.json"))
		r = open_index(s, e);
	else if (exists(s, "model.safetensors"))
		r = add_file(s, "model.safetensors", e);
	else
		r = err_set(e, -ENOENT, "%s: neither model.safetensors.index.json nor model.safetensors",
			    s->dir);
	for (size_t i = 0; r == 0 && i < sizeof(extra) / sizeof(extra[0]); i++)
		if (exists(s, extra[i]))
			r = add_file(s, extra[i], e);
	return r;
}

static void count_vision(struct tensor_set *s, const struct st_tensor *t)
{
	bool floating = strcmp(t->dtype, "BF16") == 0 || strcmp(t->dtype, "F16") == 0 ||
			strcmp(t->dtype, "F32") == 0;

	s->n_vision++;
	s->n_vision_quantised += !floating;
	s->vision_bytes += t->bytes;
}

static int index_tensors(struct tensor_set *s, struct err *e)
{
	size_t total = 0;

	for (uint32_t i = 0; i < s->n_files; i++)
		total += st_count(s->files[i]);
	s->tensors = calloc(total + 1, sizeof(s->tensors[0]));
	if (!s->tensors)
		return err_set(e, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < s->n_files; i++)
		for (uint32_t j = 0; j < st_count(s->files[i]); j++) {
			const struct st_tensor *t = st_at(s->files[i], j);
			const char *canon = tensor_canonical(t->name);

			if (canon)
				s->tensors[s->n_tensors++] =
					(struct tensor){ canon, s->files[i], t, false };
			else
				count_vision(s, t);
		}
	qsort(s->tensors, s->n_tensors, sizeof(s->tensors[0]), by_canon);
	for (uint32_t i = 1; i < s->n_tensors; i++)
		if (strcmp(s->tensors[i - 1].canon, s->tensors[i].canon) == 0)
			return err_set(e, -EINVAL, "%s: tensor %s is also in %s",
				       st_path(s->tensors[i].file), s->tensors[i].t->name,
				       st_path(s->tensors[i - 1].file));
	return 0;
}

static void closepp(struct tensor_set **s)
{
	tensor_set_close(*s);
}

int tensor_set_open(const char *dir, struct tensor_set **ret, struct err *e)
{
	CLEANUP(closepp) struct tensor_set *s = calloc(1, sizeof(*s));

	if (!s || !(s->dir = strdup(dir)))
		return err_set(e, -ENOMEM, "out of memory");
	int r = open_files(s, e);
	if (r == 0)
		r = index_tensors(s, e);
	if (r < 0)
		return r;
	*ret = TAKE(s);
	return 0;
}

struct tensor_set *tensor_set_close(struct tensor_set *s)
{
	if (!s)
		return NULL;
	for (uint32_t i = 0; i < s->n_files; i++)
		st_close(s->files[i]);
	free(s->files);
	free(s->tensors);
	free(s->dir);
	free(s);
	return NULL;
}
