/* chip.c - see chip.h. */
#include "worker/chip.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/own.h"

#define GPUS "/proc/driver/nvidia/gpus"
#define READ_BYTES ((size_t)64 << 20)	/* a thread: more than its share of any cache */
#define READ_NS 300000000ull
#define MAX_THREADS 64

/* Data sheets. */
static const struct {
	const char *name, *driver;	/* what the driver's name contains */
	double gb_per_s;
	uint32_t gigabytes;
	bool shown;
} chips[] = {
	{ "GB10", "GB10", 273, 128, true },
	{ "RTX PRO 6000", "RTX PRO 6000", 1792, 96, true },
	{ "H200", "H200", 4800, 141, false },
	{ "H100", "H100", 3350, 80, false },
	{ "B200", "B200", 8000, 192, false },
	{ "RTX 5090", "RTX 5090", 1792, 32, false },
	{ "RTX 4090", "RTX 4090", 1008, 24, false },
};

enum { N_CHIPS = sizeof(chips) / sizeof(chips[0]) };

static void fill(uint32_t i, struct chip *ret)
{
	*ret = (struct chip){ .bytes_per_s = chips[i].gb_per_s * 1e9,
			      .memory = (uint64_t)chips[i].gigabytes * 1000000000 };
	snprintf(ret->name, sizeof(ret->name), "%s", chips[i].name);
}

bool chip_known(uint32_t i, struct chip *ret)
{
	for (uint32_t k = 0; k < N_CHIPS; k++)
		if (chips[k].shown && i-- == 0) {
			fill(k, ret);
			return true;
		}
	return false;
}

/* "Model: 		 NVIDIA H200" of one GPU. */
static bool model_of(const char *gpu, char *line, int room)
{
	char path[300];

	snprintf(path, sizeof(path), GPUS "/%s/information", gpu);
	CLEANUP(fclosep) FILE *f = fopen(path, "re");
	while (f && fgets(line, room, f))
		if (strncmp(line, "Model:", 6) == 0)
			return true;
	return false;
}

bool chip_gpu_here(struct chip *ret)
{
	DIR *d = opendir(GPUS);
	const struct dirent *gpu;
	bool found = false;
	char line[256];

	while (d && !found && (gpu = readdir(d))) {
		if (gpu->d_name[0] == '.' || !model_of(gpu->d_name, line, sizeof(line)))
			continue;
		for (uint32_t k = 0; k < N_CHIPS && !found; k++)
			if (strstr(line, chips[k].driver)) {
				fill(k, ret);
				found = true;
			}
	}
	if (d)
		closedir(d);
	return found;
}

/* ---- the processor ----------------------------------------------------------------------- */

struct reader {
	const uint64_t *words;
	uint64_t sum, best_ns;	/* of one pass: what else runs here should not count */
};

static void *read_some(void *ctx)
{
	struct reader *r = ctx;
	uint64_t begin = clock_ns(), now = begin, sum[8] = { 0 };

	while (now - begin < READ_NS) {
		uint64_t from = now;

		for (size_t i = 0; i < READ_BYTES / 8; i += 8)
			for (size_t k = 0; k < 8; k++)
				sum[k] += r->words[i + k];
		now = clock_ns();
		if (now - from < r->best_ns)
			r->best_ns = now - from;
	}
	for (size_t k = 0; k < 8; k++)
		r->sum += sum[k];
	return NULL;
}

bool chip_cpu_here(struct chip *ret)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN), page = sysconf(_SC_PHYS_PAGES);
	size_t n = cores < 1 ? 1 : cores > MAX_THREADS ? MAX_THREADS : (size_t)cores, started = 0;
	CLEANUP(freep) char *room = malloc(n * READ_BYTES);
	struct reader r[MAX_THREADS];
	pthread_t thread[MAX_THREADS];
	double speed = 0;

	if (!room)
		return false;
	memset(room, 1, n * READ_BYTES);
	for (; started < n; started++) {
		r[started] =
			(struct reader){ .words = (uint64_t *)(void *)(room + started * READ_BYTES),
					 .best_ns = UINT64_MAX };
		if (pthread_create(&thread[started], NULL, read_some, &r[started]) != 0)
			break;
	}
	for (size_t i = 0; i < started; i++) {
		pthread_join(thread[i], NULL);
		/* a sum that nobody expects would mean that nothing was read */
		if (r[i].sum)
			speed += (double)READ_BYTES / (double)r[i].best_ns * 1e9;
	}
	*ret = (struct chip){ .bytes_per_s = speed,
			      .measured = true,
			      .cpu = true,
			      .memory = page > 0 ?
						(uint64_t)page * (uint64_t)sysconf(_SC_PAGESIZE) :
						0 };
	snprintf(ret->name, sizeof(ret->name), "this processor (%zu threads)", started);
	return speed > 0;
}
