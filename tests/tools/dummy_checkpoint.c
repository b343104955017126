/* dummy_checkpoint.c - fills a model folder whose data are holes with made-up weights.
 *
 *	dummy_checkpoint FOLDER RECIPE
 *
 * FOLDER is as tests/tools/synthetic_checkpoint.py leaves it (fp8-35b for the recipe fp8, bf16-35b for
 * bf16): real names, types and shapes.  A worker can then serve the full shape from files, and computes
 * what `hearth-bench --dummy RECIPE` computes, byte for byte.  Weights whose scale has a second factor
 * in a tensor of its own (NVFP4) are refused.
 *
 * The loader finds the tensors, in its own mapping of the files; /proc/self/maps says which place of
 * which file that is.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cpu/pool.h"
#include "kernels/dummy.h"
#include "kernels/weight_stream.h"
#include "worker/weights/checkpoint.h"

#define MAX_FILES 128

struct file {
	uintptr_t begin, end;
	int fd;
};

struct part {
	struct weight_ref whole, rows;
	struct weight_piece piece;
};

struct filling {
	struct dummy d;
	struct file files[MAX_FILES];
	uint32_t n_files, n_parts, room, n_failed;
	uint64_t bytes;
	struct part *parts;
};

static bool is_ours(const char *path, const char *folder)
{
	const size_t n = strlen(folder);

	return strncmp(path, folder, n) == 0 && path[n] == '/' && strstr(path, ".safetensors");
}

static int find_files(struct filling *f, const char *folder)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned long begin, end, at;
	char line[4096], path[4096];
	int r = maps ? 0 : -1;

	while (r == 0 && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %*s %lx %*s %*s %4095s", &begin, &end, &at, path) != 4 || !is_ours(path, folder))
			continue;
		struct file *x = &f->files[f->n_files];

		if (at != 0 || f->n_files == MAX_FILES || (x->fd = open(path, O_WRONLY | O_CLOEXEC)) < 0) {
			fprintf(stderr, "dummy_checkpoint: %s: cannot be written\n", path);
			r = -1;
			break;
		}
		x->begin = begin;
		x->end = end;
		f->n_files++;
	}
	if (maps)
		fclose(maps);
	return r;
}

static bool put(const struct filling *f, const void *at, const char *bytes, size_t n)
{
	const uintptr_t p = (uintptr_t)at;

	for (uint32_t i = 0; i < f->n_files; i++) {
		const struct file *x = &f->files[i];

		if (p < x->begin || p + n > x->end)
			continue;
		for (size_t done = 0; done < n;) {
			ssize_t w = pwrite(x->fd, bytes + done, n - done, (off_t)(p - x->begin + done));

			if (w <= 0)
				return false;
			done += (size_t)w;
		}
		return true;
	}
	return n == 0;
}

static void fill(void *ctx, uint32_t task)
{
	struct filling *f = ctx;
	const struct part *p = &f->parts[task];
	const size_t n = weight_data_bytes(&p->rows), m = weight_scale_bytes(&p->rows);
	char *bytes = malloc(n + m);
	bool ok = bytes;

	if (ok)
		dummy_fill(&f->d, &p->whole, &p->piece, bytes, bytes + n);
	ok = ok && put(f, p->rows.data, bytes, n) && put(f, p->rows.scale, bytes + n, m);
	free(bytes);
	if (!ok)
		__atomic_add_fetch(&f->n_failed, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&f->bytes, n + m, __ATOMIC_RELAXED);
}

static bool same_form(const struct weight_ref *a, const struct weight_ref *b)
{
	if (a->format != b->format || a->rows != b->rows || a->cols != b->cols || a->format == WF_NVFP4)
		return false;
	return weight_is_plain(a->format) || (a->scale_format == b->scale_format && a->span_rows == b->span_rows &&
					      a->span_cols == b->span_cols);
}

/* One matrix, in pieces: what the checkpoint and the made-up model must agree on. */
static int add(struct filling *f, const struct weight_source *files, struct weight_piece p)
{
	const struct weight_source made = dummy_source(&f->d);
	struct weight_ref there, here;
	const int r = made.find(made.ctx, p.slot, p.layer, p.expert, &here);
	const int q = files->find(files->ctx, p.slot, p.layer, p.expert, &there);

	if (r < 0 && q < 0)
		return 0;
	if (r < 0 || q < 0 || !same_form(&there, &here)) {
		fprintf(stderr, "dummy_checkpoint: %s: made up in another form than the files have\n", weight_slot_name(p.slot));
		return -1;
	}
	const uint32_t step = weight_piece_rows(&there, WEIGHT_PIECE);

	for (p.first = 0; p.first < there.rows; p.first += step) {
		if (f->n_parts == f->room) {
			f->room = f->room ? 2 * f->room : 4096;
			f->parts = realloc(f->parts, f->room * sizeof(f->parts[0]));
			if (!f->parts)
				abort();
		}
		struct part *x = &f->parts[f->n_parts++];

		p.rows = there.rows - p.first < step ? there.rows - p.first : step;
		*x = (struct part){ .whole = here, .piece = p };
		if (weight_rows(&there, p.first, p.rows, &x->rows) < 0)
			return -1;
	}
	return 0;
}

static int add_all(struct filling *f, const struct weight_source *files)
{
	const struct model_shape *s = &f->d.shape;
	int r = 0;

	for (uint32_t slot = 0; r == 0 && slot < W_N_SLOTS; slot++) {
		const bool expert = slot >= W_EXPERT_GATE && slot <= W_EXPERT_DOWN;
		const uint32_t layers = slot < W_PER_LAYER ? 1 : s->n_layers + s->n_mtp_layers;

		for (uint32_t l = 0; r == 0 && l < layers; l++)
			for (uint32_t x = 0; r == 0 && x < (expert ? s->n_experts : 1); x++)
				r = add(f, files, (struct weight_piece){ .slot = (enum weight_slot)slot, .layer = l,
									 .expert = x });
	}
	return r;
}

static int fill_all(struct filling *f)
{
	struct pool *pool;

	if (pool_new(0, &pool) < 0)
		return -1;
	pool_run(pool, fill, f, f->n_parts);
	pool_free(pool);
	for (uint32_t i = 0; i < f->n_files; i++)
		if (close(f->files[i].fd) < 0)
			f->n_failed++;
	free(f->parts);
	printf("%llu bytes in %u files\n", (unsigned long long)f->bytes, f->n_files);
	return f->n_failed ? -1 : 0;
}

int main(int argc, char **argv)
{
	static struct filling f = { .d.seed = DUMMY_SEED };
	struct hf_config config;
	struct checkpoint *c;
	struct err e;
	char *folder = argc == 3 ? realpath(argv[1], NULL) : NULL;

	if (!folder || dummy_recipe_of(argv[2], &f.d.recipe) < 0) {
		fprintf(stderr, "usage: dummy_checkpoint FOLDER RECIPE\n");
		return 64;
	}
	if (hf_config_open(folder, &config, &e) < 0 || checkpoint_open(folder, &config, &c, &e) < 0) {
		fprintf(stderr, "dummy_checkpoint: %s\n", e.text);
		return 1;
	}
	f.d.shape = config.shape;
	int r = find_files(&f, folder);

	if (r == 0)
		r = add_all(&f, checkpoint_source(c));
	if (r == 0)
		r = fill_all(&f);
	if (r < 0)
		fprintf(stderr, "dummy_checkpoint: %s: not filled\n", folder);
	checkpoint_close(c);
	free(folder);
	return r < 0;
}
