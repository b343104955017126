/* target.c - see target.h. */
#include "bench/target.h"

#include <getopt.h>

#include "bench/number.h"

bool target_take(struct target *t, int key)
{
	switch (key) {
	case TARGET_DEVICE: t->device = optarg; return true;
	case TARGET_DUMMY: t->dummy = optarg; return true;
	case TARGET_SHAPE: t->shape = optarg; return true;
	case TARGET_KV: return kv_format_parse(optarg, &t->kv) == 0;
	case TARGET_THREADS: return number_of(optarg, 1, 1024, &t->threads);
	default: return false;
	}
}

bool target_rest(struct target *t, int argc, char **argv)
{
	if (optind + (t->dummy ? 0 : 1) != argc)
		return false;
	t->model = t->dummy ? NULL : argv[optind];
	return true;
}

int target_find(struct target *t, struct err *e)
{
	return step_model_open(t->model, t->dummy, t->shape, QUANTIZE_NONE, &t->m, e);
}

int target_open(struct target *t, struct device_limits limits, struct err *e)
{
	int r;

	limits.n_threads = t->threads;
	limits.kv = t->kv;
	r = device_open(t->device, &t->m.shape, &limits, &t->d, e);
	return r < 0 ? r : device_load(t->d, &t->m.source, NULL, NULL, e);
}

void target_close(struct target *t)
{
	t->d = device_close(t->d);
	step_model_close(&t->m);
}

const char *target_name(const struct target *t)
{
	return t->model ? t->model : t->dummy;
}
