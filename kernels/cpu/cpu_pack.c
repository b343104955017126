/* cpu_pack.c - rows of a checkpoint into the layout of path.h.
 *
 * dequant.h says what each number is; the formats that checkpoints are made of have a short way
 * here that gives the same bits, since a disk brings gigabytes a second.  Tasks are runs of whole
 * groups of 16 rows: each writes words of its own.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dequant.h"
#include "lib/own.h"

#define MAX_TASKS 64

struct place {
	bool bad;
	uint32_t row, col;
};

struct packing {
	const struct weight_ref *w;	/* some rows ... */
	uint32_t first;	/* ... from this one of the matrix on; a multiple of LANES */
	struct mat *m;
	uint32_t groups, n_tasks;
	uint16_t fp8[256];		/* e4m3 as bfloat16 */
	uint16_t nvfp4[256][16];	/* e2m1 times a scale */
	bool no_memory[MAX_TASKS];
	struct place place[MAX_TASKS];	/* the first NaN of each task */
};

/* ---- rows to bfloat16 ---------------------------------------------------------------- */

static void make_tables(struct packing *k)
{
	for (unsigned i = 0; k->w->format == WF_FP8 && i < 256; i++)
		k->fp8[i] = bf16_bits(dequant_e4m3((uint8_t)i));
	for (unsigned i = 0; k->w->format == WF_NVFP4 && i < 256; i++)
		for (uint8_t code = 0; code < 16; code++)
			k->nvfp4[i][code] =
				bf16_bits(dequant_e2m1(code) * dequant_e4m3((uint8_t)i));
}

static void row_fp8(const struct packing *k, const uint8_t *p, uint16_t *ret)
{
	for (uint32_t c = 0; c < k->w->cols; c++)
		ret[c] = k->fp8[p[c]];
}

static void row_nvfp4(const struct packing *k, const uint8_t *p, const uint8_t *scale,
		      uint16_t *ret)
{
	for (uint32_t c = 0; c < k->w->cols; c += 16, scale++) {
		const uint16_t *bits = k->nvfp4[*scale];

		for (uint32_t i = 0; i < 16; i += 2, p++) {
			ret[c + i] = bits[*p & 15];
			ret[c + i + 1] = bits[*p >> 4];
		}
	}
}

static bool is_short(const struct weight_ref *w)
{
	return w->format == WF_BF16 || w->format == WF_FP8 ||
	       (w->format == WF_NVFP4 && w->span_rows == 1 && w->span_cols == 16 &&
		w->cols % 16 == 0 && w->scale_format == WF_FP8);
}

/* A row as bfloat16; `room` when it is not so in the checkpoint. */
static const void *short_row(const struct packing *k, uint32_t r, uint16_t *room)
{
	const struct weight_ref *w = k->w;
	const uint8_t *p = (const uint8_t *)w->data + weight_row_bytes(w->format, w->cols) * r;

	if (w->format == WF_BF16)
		return p;
	if (w->format == WF_FP8)
		row_fp8(k, p, room);
	else
		row_nvfp4(k, p, (const uint8_t *)w->scale + (size_t)(w->cols / 16) * r, room);
	return room;
}

/* ---- groups -------------------------------------------------------------------------- */

/* Sixteen rows side by side, two columns a word: a row's two neighbours are that word already. */
static void put_group(const uint8_t *const row[LANES], uint32_t cols, uint32_t *out)
{
	for (uint32_t c = 0; c + 1 < cols; c += 2, out += LANES)
		for (int i = 0; i < LANES; i++)
			memcpy(&out[i], row[i] + 2 * (size_t)c, 4);
	for (int i = 0; cols % 2 && i < LANES; i++)
		memcpy(&out[i], row[i] + 2 * (size_t)(cols - 1), 2);
}

static void look_for_nan(const uint16_t *x, uint32_t row, uint32_t cols, struct place *ret)
{
	for (uint32_t c = 0; !ret->bad && c < cols; c++)
		if ((x[c] & 0x7fffu) > 0x7f80u)
			*ret = (struct place){ true, row, c };
}

static void pack_short(const struct packing *k, uint32_t group, uint16_t *room, struct place *bad)
{
	const struct weight_ref *w = k->w;
	uint32_t cols = w->cols, words = (cols + 1) / 2 * LANES, n = w->rows - group * LANES;
	const uint8_t *row[LANES];

	n = n < LANES ? n : LANES;
	for (uint32_t i = 0; i < LANES; i++) {
		uint16_t *own = room + (size_t)i * cols;

		if (i >= n)	/* rows that are not there are zeros */
			memset(own, 0, (size_t)cols * 2);
		row[i] = i < n ? short_row(k, group * LANES + i, own) : (const void *)own;
		if (i < n && !weight_is_plain(w->format))
			look_for_nan(own, k->first + group * LANES + i, cols, bad);
	}
	put_group(row, cols, (uint32_t *)k->m->data + (size_t)(k->first / LANES + group) * words);
}

/* A row of operands into its lane of its group. */
static void pack_row(const float *row, uint32_t r, struct mat *m)
{
	uint32_t pairs = (m->cols + 1) / 2, *word = m->data;
	float *f = m->data;

	for (uint32_t c = 0; c < m->cols; c++) {
		if (m->f32) {
			f[((size_t)(r / LANES) * m->cols + c) * LANES + r % LANES] = row[c];
		} else {
			uint32_t bits = bf16_bits(row[c]);

			word[((size_t)(r / LANES) * pairs + c / 2) * LANES + r % LANES] |=
				c % 2 ? bits << 16 : bits;
		}
	}
}

static void pack_any(const struct packing *k, uint32_t group, float *room, struct place *bad)
{
	const struct weight_ref *w = k->w;
	uint32_t end = (group + 1) * LANES < w->rows ? (group + 1) * LANES : w->rows;

	for (uint32_t r = group * LANES; r < end; r++) {
		dequant_operands(w, r, room);
		for (uint32_t c = 0; c < w->cols && !weight_is_plain(w->format) && !bad->bad; c++)
			if (room[c] != room[c])
				*bad = (struct place){ true, k->first + r, c };
		pack_row(room, k->first + r, k->m);
	}
}

static void pack_task(void *ctx, uint32_t task)
{
	struct packing *k = ctx;
	uint32_t begin = (uint32_t)((uint64_t)k->groups * task / k->n_tasks);
	uint32_t end = (uint32_t)((uint64_t)k->groups * (task + 1) / k->n_tasks);
	bool is_bf16 = !k->m->f32 && is_short(k->w);
	const size_t each = is_bf16 ? LANES * 2 : sizeof(float);
	CLEANUP(freep) void *room = malloc((size_t)k->w->cols * each);

	k->no_memory[task] = !room;
	for (uint32_t g = begin; room && g < end; g++) {
		if (is_bf16)
			pack_short(k, g, room, &k->place[task]);
		else
			pack_any(k, g, room, &k->place[task]);
	}
}

/* ---- the factors of a quantised matrix, as path.h wants them ------------------------- */

uint32_t cpu_factors(const struct weight_ref *w)
{
	if (weight_is_plain(w->format))
		return 0;
	return dequant_factor_per_row(w) ? LANES : weight_scale_cols(w);
}

static int put_factors(const struct weight_ref *w, uint32_t first, struct mat *m, struct err *e)
{
	bool per_row = dequant_factor_per_row(w);
	uint32_t n = cpu_factors(w), groups = pad16(w->rows) / LANES;
	float *out = m->factor + (size_t)(first / LANES) * n;

	if (!per_row && (w->span_rows % LANES || w->span_cols % 2))
		return err_set(e, -ENOTSUP, "%s: scales for blocks of %u x %u", w->name,
			       w->span_rows, w->span_cols);
	m->block_cols = per_row ? 0 : w->span_cols;
	for (uint32_t i = 0; i < groups * n; i++) {
		uint32_t row = per_row ? i : i / n * LANES,
			 col = per_row ? 0 : i % n * w->span_cols;

		if (row >= w->rows)
			break;
		out[i] = dequant_factor(w, row, col);
		if (!isfinite(out[i]))
			return weight_in_file(w->scale_file, err_set(e, -EINVAL,
					      "%s: the scale of [%u, %u] is not a finite number",
					      w->name, first + row, col), e);
	}
	return 0;
}

int cpu_pack(struct cpu_device *d, const struct weight_ref *part, uint32_t first, struct mat *m,
	     struct err *e)
{
	struct packing k = {
		.w = part, .first = first, .m = m, .groups = pad16(part->rows) / LANES
	};

	k.n_tasks = k.groups < MAX_TASKS ? k.groups : MAX_TASKS;
	make_tables(&k);
	pool_run(d->pool, pack_task, &k, k.n_tasks);
	for (uint32_t i = 0; i < k.n_tasks; i++) {
		if (k.no_memory[i])
			return err_set(e, -ENOMEM, "out of memory for the weights");
		if (k.place[i].bad)
			return err_set(e, -EINVAL, "%s: not a number at [%u, %u]", part->name,
				       k.place[i].row, k.place[i].col);
	}
	return weight_is_plain(part->format) ? 0 : put_factors(part, first, m, e);
}
