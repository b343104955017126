/* cpu_measure.c - kernels/measure.h on the CPU: memory read by all threads, matrices, experts in
 * use. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "lib/clock.h"
#include "lib/meminfo.h"
#include "lib/own.h"

#define READ_EACH ((size_t)64 << 20)	/* of a thread: more than its share of any cache */
#define READ_ALL ((size_t)2 << 30)
#define READ_ROUNDS 5
#define PROMPT_ROWS 512

struct reading {
	const uint64_t *words;
	size_t each;		/* words of a thread */
	uint64_t sink[1024];	/* so that the sums are needed */
};

static void read_words(void *ctx, uint32_t task)
{
	struct reading *r = ctx;
	const uint64_t *w = r->words + task * r->each;
	uint64_t sum[8] = { 0 };

	for (size_t i = 0; i + 8 <= r->each; i += 8)
		for (size_t k = 0; k < 8; k++)
			sum[k] += w[i + k];
	for (size_t k = 0; k < 8; k++)
		r->sink[task % 1024] += sum[k];
}

static int read_roof(struct cpu_device *d, double *ret)
{
	const uint32_t n = pool_threads(d->pool);
	const size_t each = READ_ALL / n < READ_EACH ? READ_ALL / n & ~(size_t)63 : READ_EACH;
	CLEANUP(freep) uint64_t *words = malloc(n * each);
	struct reading r = { .words = words, .each = each / 8 };
	uint64_t best = UINT64_MAX, sum = 0;

	if (!words)
		return -ENOMEM;
	memset(words, 1, n * each);
	for (int i = 0; i < READ_ROUNDS; i++) {
		uint64_t begin = clock_ns(), ns;

		pool_run(d->pool, read_words, &r, n);
		ns = clock_ns() - begin;
		best = ns < best ? ns : best;
	}
	for (int i = 0; i < 1024; i++)
		sum += r.sink[i];
	if (!sum || !best)
		return -ENODEV;
	*ret = (double)(n * each) / (double)best * 1e9;
	return 0;
}

/* ---- matrices -------------------------------------------------------------------------- */

static uint64_t mat_bytes(const struct mat *m)
{
	uint64_t row = m->f32 ? m->cols : (m->cols + 1) / 2;	/* words */
	uint64_t factors = !m->factor	  ? 0 :
			   !m->block_cols ? LANES :
					    (m->cols + m->block_cols - 1) / m->block_cols;

	return (uint64_t)m->groups * (LANES * row + factors) * 4;
}

static uint64_t mixer_bytes(const struct layer *l)
{
	return mat_bytes(&l->qkv) + mat_bytes(&l->z) + mat_bytes(&l->a) + mat_bytes(&l->b) +
	       mat_bytes(&l->out) + mat_bytes(&l->q) + mat_bytes(&l->k) + mat_bytes(&l->v) +
	       mat_bytes(&l->o);
}

static uint64_t mlp_bytes(const struct layer *l, uint32_t i)
{
	return mat_bytes(&l->gate[i]) + mat_bytes(&l->up[i]) + mat_bytes(&l->down[i]);
}

static void count_reads(const struct cpu_device *d, struct device_measures *ret)
{
	const uint32_t n = d->base.shape.n_experts;
	uint64_t always = mat_bytes(&d->head), experts = 0;

	for (uint32_t i = 0; i < d->base.shape.n_layers; i++) {
		const struct layer *l = &d->layers[i];

		/* place n: the shared expert, or the dense part */
		always += mixer_bytes(l) + mat_bytes(&l->router) + mat_bytes(&l->score) +
			  mlp_bytes(l, n);
		for (uint32_t x = 0; x < n; x++)
			experts += mlp_bytes(l, x);
	}
	ret->step_bytes = always;
	ret->expert_bytes = n ? experts / n / d->base.shape.n_layers : 0;
}

/* ---- the processor --------------------------------------------------------------------- */

static void processor_name(char *ret, size_t room)
{
	CLEANUP(fclosep) FILE *f = fopen("/proc/cpuinfo", "re");
	char line[256];

	snprintf(ret, room, "processor");
	while (f && fgets(line, sizeof(line), f)) {
		const char *colon = strchr(line, ':');

		if (!colon || strncmp(line, "model name", 10) != 0)
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(ret, room, "%s", colon + 1 + strspn(colon + 1, " \t"));
		return;
	}
}

static int describe(const struct cpu_device *d, struct device_measures *ret)
{
	char name[64];
	struct meminfo m;
	struct err e;
	int r = meminfo_read(NULL, &m, &e);

	if (r < 0)
		return r;
	processor_name(name, sizeof(name));
	snprintf(ret->device, sizeof(ret->device), "%s, %u threads, %s", name,
		 pool_threads(d->pool), d->path->name);
	ret->driver[0] = '\0';
	ret->free = m.available;
	ret->prompt_rows = PROMPT_ROWS;
	return 0;
}

int cpu_measure(struct cpu_device *d, enum measure what, struct device_measures *ret)
{
	switch (what) {
	case MEASURE_DEVICE:
		return describe(d, ret);
	case MEASURE_ROOF:
		return read_roof(d, &ret->read_roof);
	case MEASURE_READS:
		count_reads(d, ret);
		return 0;
	case MEASURE_STEPS:
		ret->experts_active = d->experts_active;
		ret->n_classes = 0;
		d->experts_active = 0;
		return 0;
	}
	return -ENOTSUP;
}
