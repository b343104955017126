/* backend.h - what a back end gives device.c: one function for each call of step.h.
 *
 * Private to kernels/.  A back end's own struct begins with a struct device.  device.c
 * checks plans against the rules of step.h before submit() sees them.
 */
#ifndef HEARTH_KERNELS_BACKEND_H
#define HEARTH_KERNELS_BACKEND_H

#include "kernels/measure.h"
#include "kernels/step.h"

struct backend {
	struct device *(*close)(struct device *d);
	void (*budget)(const struct device *d, const struct weight_source *w,
		       struct device_budget *ret);
	const char *(*numeric_text)(const struct device *d);
	const char *(*lost_text)(struct device *d);	/* NULL: it never has anything to say */
	const char *(*load_note)(const struct device *d);
	int (*load)(struct device *d, const struct weight_source *w, device_progress *progress,
		    void *ctx, struct err *e);
	int (*slot_begin)(struct device *d, uint32_t slot, const struct sampling *s,
			  const uint32_t *prompt, uint32_t n_prompt);
	int (*submit)(struct device *d, const struct plan *p);
	int (*collect)(struct device *d, struct run_result *ret, uint32_t n);
	size_t (*state_bytes)(const struct device *d);
	size_t (*block_bytes)(const struct device *d);
	int (*state_save)(struct device *d, uint32_t slot, void *ret);
	int (*state_restore)(struct device *d, uint32_t slot, const void *from);
	int (*block_save)(struct device *d, kv_block b, void *ret);
	int (*block_restore)(struct device *d, kv_block b, const void *from);
	/* measure.h; NULL: -ENOTSUP */
	int (*measure)(struct device *d, enum measure what, struct device_measures *ret);
	int (*profile)(struct device *d, bool on);
};

struct device {
	const struct backend *backend;
	struct model_shape shape;
	struct device_limits limits;
	uint8_t *slot_seen;	/* n_slots, for the check that a slot is in a plan once */
	struct {
		uint32_t slot, pos, n, next, n_parts;
	} open;			/* the prompt that was begun in parts; n_parts 0: none */
	bool loaded;
};

int cpu_device_open(const struct model_shape *shape, const struct device_limits *limits,
		    struct device **ret, struct err *e);
/* Not there in a program that was linked without the CUDA back end (kernels/cuda/backend.c). */
int cuda_backend_open(const char *name, const struct model_shape *shape,
		      const struct device_limits *limits, struct device **ret, struct err *e)
	__attribute__((weak));

#endif
