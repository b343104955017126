/* load.h - from a model folder to a running engine.
 *
 *	text side (tokenizer, template) -> weights and shape -> limits -> budget, in bytes,
 *	said before anything large is taken -> device -> numeric class -> scheduler
 *
 * What a person does not decide is worked out here, from the model and the device.
 */
#ifndef HEARTH_WORKER_LOAD_H
#define HEARTH_WORKER_LOAD_H

#include "kernels/quantize.h"
#include "worker/engine.h"
#include "worker/numeric_class.h"
#include "worker/text_model.h"
#include "worker/weights/checkpoint.h"

/* What is about to be taken. */
struct load_budget {
	struct device_budget bytes;
	struct device_limits limits;
	uint64_t block_bytes;	/* of one */
	uint64_t total;
	enum quantize quantize;			/* asked for, and what that comes to */
	struct quantize_facts quantized;
};

struct load_options {
	const char *model_dir;	/* a folder, or a hub id that is in the local cache */
	const char *device;
	const char *read;	/* auto, io_uring, threads, mapped (worker/weights/reader.h); NULL: auto */
	const char *quantize;	/* kernels/quantize.h: none, head, dense, head+dense; NULL: none */
	const char *kv;		/* keys and values: bf16, fp8; NULL: bf16 */
	const char *prefill_fp4;	/* kernels/step.h: off, up, all; NULL: off */
	uint32_t context;	/* 0 in any of these: worked out */
	uint32_t slots, queue, rows, chunk, pause_ms, threads;
	uint64_t kv_bytes;
	bool drafts;
	bool digests;		/* tests: fill run_result.digest */
	/* Called from the engine's thread; NULL ok.  Non-zero stops the load and is answered. */
	void *ctx;
	int (*on_budget)(void *ctx, const struct load_budget *b, struct err *e);
	device_progress *on_progress;
};

#define LOAD_DEFAULTS { .device = "cpu", .slots = 16, .queue = 256, .pause_ms = 45 }

struct loaded {
	struct engine *engine;
	struct text_model text;
	struct load_budget budget;
	char numeric_class[NUMERIC_CLASS_BYTES];
	char numeric_text[256];		/* the device's part of it, as words */
	char *dir;			/* where the model was found */
	struct hf_config config;	/* its n_token_ids: the tokenizer's */
	struct checkpoint *weights;	/* open as long as the engine runs */
};

/* 0; -EINVAL, -ENOTSUP, -ENOENT...: this model, or these options, cannot work (one line says
 * why); -ENODATA: its files became shorter meanwhile; -EIO: a disk; -ENOMEM, -ENODEV: this machine
 * cannot, now. */
int load_model(const struct load_options *o, struct loaded *ret, struct err *e);
/* The budget of a worker with these options, and nothing is loaded.  On the CPU it is the one that
 * load_model() says, to the byte.  A GPU is not opened for it (a context alone takes hundreds of
 * MB): no workspace, and weights, keys, values and states without what the device rounds up.  Codes of
 * load_model(); on_budget and on_progress are not called. */
int load_estimate(const struct load_options *o, struct load_budget *ret, struct err *e);
void loaded_done(struct loaded *l);

#endif
