/* device.h - the CUDA back end: the calls of kernels/step.h for devices named "cuda:N".
 *
 * Signatures and meanings are those of step.h, with a type of its own; kernels/device.c picks the back
 * end by name.  What this version does not do: `draft` and NUMERICS_F32 answer -ENOTSUP.  What it does
 * otherwise than step.h says: device_submit() waits where a run wants logits back in memory that is not
 * pinned, and everywhere with `digests`; the digest of logits is taken after the slot's biases.
 * Weights keep the formats of their checkpoint (weights.h).
 */
#ifndef HEARTH_KERNELS_CUDA_DEVICE_H
#define HEARTH_KERNELS_CUDA_DEVICE_H

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/measure.h"
#include "kernels/step.h"

struct cuda_device;

int cuda_device_open(const char *name, const struct model_shape *shape, const struct device_limits *limits,
		     struct cuda_device **ret, struct err *e);
struct cuda_device *cuda_device_close(struct cuda_device *d);
void cuda_device_budget(const struct cuda_device *d, const struct weight_source *w, struct device_budget *ret);
const char *cuda_device_numeric_text(const struct cuda_device *d);
const char *cuda_device_load_note(const struct cuda_device *d);
const char *cuda_device_lost_text(struct cuda_device *d);
int cuda_device_load(struct cuda_device *d, const struct weight_source *w, device_progress *progress, void *ctx,
		     struct err *e);
int cuda_slot_begin(struct cuda_device *d, uint32_t slot, const struct sampling *s, const uint32_t *prompt,
		    uint32_t n_prompt);
int cuda_device_submit(struct cuda_device *d, const struct plan *p);
int cuda_device_collect(struct cuda_device *d, struct run_result *ret, uint32_t n);
size_t cuda_state_bytes(const struct cuda_device *d);
size_t cuda_block_bytes(const struct cuda_device *d);
int cuda_state_save(struct cuda_device *d, uint32_t slot, void *ret);
int cuda_state_restore(struct cuda_device *d, uint32_t slot, const void *from);
int cuda_block_save(struct cuda_device *d, kv_block b, void *ret);
int cuda_block_restore(struct cuda_device *d, kv_block b, const void *from);

/* ---- for measurements --------------------------------------------------------- */

/* Bytes of matrices that a step reads: always, and for each expert in use, in the mean over layers. */
void cuda_device_weight_reads(const struct cuda_device *d, uint64_t *ret_step, uint64_t *ret_expert);

enum cuda_class {
	CLASS_EMBED,
	CLASS_GDN_MATRIX, CLASS_GDN, CLASS_ATTENTION_MATRIX, CLASS_ATTENTION,
	CLASS_ROUTER, CLASS_EXPERTS, CLASS_SHARED,
	CLASS_RESIDUAL, CLASS_HEAD, CLASS_SAMPLE,
	CLASS_N
};
extern const char *const cuda_class_name[CLASS_N];

struct cuda_stats {
	uint64_t experts_active;	/* sum over layers and passes of distinct experts */
	double class_ms[CLASS_N];	/* while profiling */
	uint64_t graphs;		/* that were made */
};

/* on: events between the kernels of every step, no graphs. */
void cuda_device_profile(struct cuda_device *d, bool on);
/* Since the last call; waits for the steps in flight. */
int cuda_device_stats(struct cuda_device *d, struct cuda_stats *ret);
/* measure.cu: kernels/measure.h over the two above.  Experts are counted in profiled steps alone. */
int cuda_device_measure(struct cuda_device *d, enum measure what, struct device_measures *ret);

#ifdef __cplusplus
}
#endif

#endif
