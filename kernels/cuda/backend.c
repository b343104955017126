/* backend.c - the CUDA back end behind kernels/device.c: every call passed on.
 *
 * device.c knows cuda_backend_open() as a weak symbol, so that a program that is linked without
 * this library runs on the CPU alone; one that wants CUDA links with -u cuda_backend_open. */
#include <stdlib.h>

#include "kernels/backend.h"
#include "kernels/cuda/device.h"

struct hooked {
	struct device base;	/* first: what device.c holds */
	struct cuda_device *d;
};

static struct cuda_device *inner(const struct device *d)
{
	return ((const struct hooked *)d)->d;
}

static struct device *hook_close(struct device *d)
{
	cuda_device_close(inner(d));
	free(d);
	return NULL;
}

static void hook_budget(const struct device *d, const struct weight_source *w,
			struct device_budget *ret)
{
	cuda_device_budget(inner(d), w, ret);
}

static const char *hook_numeric_text(const struct device *d)
{
	return cuda_device_numeric_text(inner(d));
}

static const char *hook_lost_text(struct device *d)
{
	return cuda_device_lost_text(inner(d));
}

static const char *hook_load_note(const struct device *d)
{
	return cuda_device_load_note(inner(d));
}

static int hook_load(struct device *d, const struct weight_source *w, device_progress *progress,
		     void *ctx, struct err *e)
{
	return cuda_device_load(inner(d), w, progress, ctx, e);
}

static int hook_slot_begin(struct device *d, uint32_t slot, const struct sampling *s,
			   const uint32_t *prompt, uint32_t n_prompt)
{
	return cuda_slot_begin(inner(d), slot, s, prompt, n_prompt);
}

static int hook_submit(struct device *d, const struct plan *p)
{
	return cuda_device_submit(inner(d), p);
}

static int hook_collect(struct device *d, struct run_result *ret, uint32_t n)
{
	return cuda_device_collect(inner(d), ret, n);
}

static size_t hook_state_bytes(const struct device *d)
{
	return cuda_state_bytes(inner(d));
}

static size_t hook_block_bytes(const struct device *d)
{
	return cuda_block_bytes(inner(d));
}

static int hook_state_save(struct device *d, uint32_t slot, void *ret)
{
	return cuda_state_save(inner(d), slot, ret);
}

static int hook_state_restore(struct device *d, uint32_t slot, const void *from)
{
	return cuda_state_restore(inner(d), slot, from);
}

static int hook_block_save(struct device *d, kv_block b, void *ret)
{
	return cuda_block_save(inner(d), b, ret);
}

static int hook_block_restore(struct device *d, kv_block b, const void *from)
{
	return cuda_block_restore(inner(d), b, from);
}

static int hook_measure(struct device *d, enum measure what, struct device_measures *ret)
{
	return cuda_device_measure(inner(d), what, ret);
}

static int hook_profile(struct device *d, bool on)
{
	cuda_device_profile(inner(d), on);
	return 0;
}

static const struct backend hooks = {
	.close = hook_close,
	.budget = hook_budget,
	.numeric_text = hook_numeric_text,
	.lost_text = hook_lost_text,
	.load_note = hook_load_note,
	.load = hook_load,
	.slot_begin = hook_slot_begin,
	.submit = hook_submit,
	.collect = hook_collect,
	.state_bytes = hook_state_bytes,
	.block_bytes = hook_block_bytes,
	.state_save = hook_state_save,
	.state_restore = hook_state_restore,
	.block_save = hook_block_save,
	.block_restore = hook_block_restore,
	.measure = hook_measure,
	.profile = hook_profile,
};

int cuda_backend_open(const char *name, const struct model_shape *shape,
		      const struct device_limits *limits, struct device **ret, struct err *e)
{
	struct hooked *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return err_set(e, -ENOMEM, "out of memory");
	h->base.backend = &hooks;
	h->base.shape = *shape;
	h->base.limits = *limits;
	r = cuda_device_open(name, shape, limits, &h->d, e);
	if (r < 0) {
		free(h);
		return r;
	}
	*ret = &h->base;
	return 0;
}
