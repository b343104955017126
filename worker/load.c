/* load.c - see load.h. */
#include "worker/load.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "kernels/measure.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/own.h"
#include "worker/traffic.h"
#include "worker/weights/hf_dir.h"

enum { REPLAY_ROWS = 16, FIRST_CHUNK = 128 };

/* A device that reads through pointers, not by a stream, has this much of its files in the page cache. */
#define DROP_EVERY ((uint64_t)512 << 20)

/* What the opener works with and on. */
struct opening {
	const struct load_options *o;
	struct loaded *l;
	uint64_t dropped;	/* bytes loaded when the page cache was cleared behind last */
};

static int check_options(const struct load_options *o, struct load_budget *ret, struct err *e)
{
	if (o->kv && kv_format_parse(o->kv, &ret->limits.kv) < 0)
		return err_set(e, -EINVAL, "kv %s: not bf16 or fp8", o->kv);
	if (o->prefill_fp4 && fp4_prefill_parse(o->prefill_fp4, &ret->limits.fp4) < 0)
		return err_set(e, -EINVAL, "prefill-fp4 %s: not off, up or all", o->prefill_fp4);
	if (o->chunk % STEP_GRID)
		return err_set(e, -EINVAL, "chunk %" PRIu32 " is not a multiple of %d", o->chunk,
			       STEP_GRID);
	if (o->quantize && quantize_parse(o->quantize, &ret->quantize) < 0)
		return err_set(e, -EINVAL, "quantize %s: not none, head, dense or head+dense",
			       o->quantize);
	if (o->rows && o->rows < o->slots + STEP_GRID)
		return err_set(e, -EINVAL, "rows %" PRIu32 ": %" PRIu32 " slots need %" PRIu32
			       " at least", o->rows, o->slots, o->slots + STEP_GRID);
	return 0;
}

static int choose_context(const struct load_options *o, const struct model_shape *shape,
			  uint32_t *ret, struct err *e)
{
	*ret = o->context ? o->context : shape->max_positions;
	if (*ret > shape->max_positions)
		return err_set(e, -EINVAL, "context %" PRIu32 ": this model has %" PRIu32
			       " positions", *ret, shape->max_positions);
	return 0;
}

/* The size of a block and how many rows make a good step are known to the device only, and a
 * device that is opened takes nothing large yet: so it is asked with one block first. */
static int ask_sizes(const struct opening *op, const struct model_shape *shape,
		     struct load_budget *b, struct err *e)
{
	struct device_measures facts;
	struct device_limits one = b->limits;
	struct device *d;
	int r;

	one.n_blocks = 1;
	r = device_open(op->o->device, shape, &one, &d, e);
	if (r < 0)
		return r;
	if (!op->o->rows && device_measure(d, MEASURE_DEVICE, &facts) == 0)
		b->limits.max_rows = facts.prompt_rows + op->o->slots;
	b->block_bytes = block_bytes(d);
	device_close(d);
	return 0;
}

static int choose_blocks(const struct load_options *o, struct load_budget *b, struct err *e)
{
	uint32_t per_context = seq_blocks_for(b->limits.max_context);
	uint64_t n = o->kv_bytes ? o->kv_bytes / b->block_bytes : 2 * (uint64_t)per_context;

	if (n == 0 || n > UINT32_MAX)
		return err_set(e, -EINVAL, "%" PRIu64 " bytes for keys and values: a block of %d "
			       "tokens takes %" PRIu64, o->kv_bytes, STEP_GRID, b->block_bytes);
	/* more than every slot could fill is never used */
	if (n > (uint64_t)per_context * o->slots)
		n = (uint64_t)per_context * o->slots;
	b->limits.n_blocks = (uint32_t)n;
	return 0;
}

static int choose_limits(const struct opening *op, const struct model_shape *shape,
			 struct load_budget *b, struct err *e)
{
	const struct load_options *o = op->o;
	int r;

	b->limits = (struct device_limits){ .n_slots = o->slots, .n_threads = o->threads,
					    .max_rows = o->rows ? o->rows : o->slots + STEP_GRID,
					    .numerics = NUMERICS_BF16, .kv = b->limits.kv,
					    .fp4 = b->limits.fp4,
					    .digests = o->digests };
	r = choose_context(o, shape, &b->limits.max_context, e);
	if (r == 0)
		r = ask_sizes(op, shape, b, e);
	if (r < 0)
		return r;
	return choose_blocks(o, b, e);
}

static struct sched_config config_of(const struct load_options *o, const struct device_limits *l,
				     uint32_t n_layers)
{
	return (struct sched_config){ .n_slots = l->n_slots, .n_blocks = l->n_blocks,
				      .max_rows = l->max_rows, .max_context = l->max_context,
				      .max_queue = o->queue, .prefill_rows = o->chunk ? o->chunk : FIRST_CHUNK,
				      .pause_ns = o->chunk ? 0 : o->pause_ms * NS_PER_MS,
				      .most_parts = n_layers,
				      .replay_rows = REPLAY_ROWS, .drafts = o->drafts };
}

static void watch_freep(struct numeric_watch **x)
{
	numeric_watch_free(*x);
}

static void quantized_freep(struct quantized **x)
{
	quantized_free(*x);
}

/* How the weights came; and what a device read through pointers leaves the page cache. */
static void tell_reading(const struct checkpoint *c)
{
	char line[512];

	if (checkpoint_read_stats(c)->n_streams == 0)
		checkpoint_drop(c);
	checkpoint_read_text(c, line, sizeof(line));
	log_note("%s", line);
}

static int on_bytes(void *ctx, uint64_t done, uint64_t total)
{
	struct opening *op = ctx;

	if (done - op->dropped >= DROP_EVERY && checkpoint_read_stats(op->l->weights)->n_streams == 0) {
		checkpoint_drop(op->l->weights);
		op->dropped = done;
	}
	return op->o->on_progress ? op->o->on_progress(op->o->ctx, done, total) : 0;
}

/* The device's text, and what was done to the weights on their way; where the checkpoint had
 * nothing to convert the bits are those of a worker that was not asked to. */
static int make_class(const struct device *d, const struct numeric_watch *watch, struct loaded *l)
{
	const struct load_budget *b = &l->budget;

	snprintf(l->numeric_text, sizeof(l->numeric_text), "%s%s%s", device_numeric_text(d),
		 b->quantized.n_matrices ? " quantize " : "",
		 b->quantized.n_matrices ? quantize_name(b->quantize) : "");
	return numeric_class(watch, l->numeric_text, PACKAGE_VERSION, l->numeric_class);
}

static uint64_t sum(const struct device_budget *b)
{
	return b->weights + b->kv + b->states + b->workspace;
}

/* The class's samples are of the checkpoint's own bytes: the watch stands before the conversion. */
static int load_device(struct opening *op, struct device *d, struct err *e)
{
	CLEANUP(watch_freep) struct numeric_watch *watch = NULL;
	CLEANUP(quantized_freep) struct quantized *weights = NULL;
	const struct model_shape *shape = &op->l->config.shape;
	struct load_budget *b = &op->l->budget;
	int r;

	if (numeric_watch_new(shape, checkpoint_source(op->l->weights), &watch) < 0 ||
	    quantized_new(shape, numeric_watch_source(watch), b->quantize, &weights) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	b->quantized = *quantized_facts(weights);
	device_budget(d, quantized_source(weights), &b->bytes);
	b->total = sum(&b->bytes);
	r = op->o->on_budget ? op->o->on_budget(op->o->ctx, b, e) : 0;
	if (r == 0)
		r = device_load(d, quantized_source(weights), on_bytes, op, e);
	if (r < 0)
		return r;
	if (*device_load_note(d))
		log_warn("%s", device_load_note(d));
	r = make_class(d, watch, op->l);
	tell_reading(op->l->weights);
	return r < 0 ? err_set(e, r, "the numeric class cannot be computed: %s", strerror(-r)) : 0;
}

/* In the engine's thread. */
static int open_device(void *ctx, struct device **ret, struct sched_config *ret_config,
		       struct err *e)
{
	struct opening *op = ctx;
	const struct model_shape *shape = &op->l->config.shape;
	struct load_budget *b = &op->l->budget;
	struct device *d;
	int r = choose_limits(op, shape, b, e);

	if (r == 0)
		r = device_open(op->o->device, shape, &b->limits, &d, e);
	if (r < 0)
		return r;
	r = load_device(op, d, e);
	if (r < 0) {
		device_close(d);
		return r;
	}
	*ret = d;
	*ret_config = config_of(op->o, &b->limits, shape->n_layers);
	return 0;
}

void loaded_done(struct loaded *l)
{
	engine_stop(l->engine);
	checkpoint_close(l->weights);
	text_model_done(&l->text);
	free(l->dir);
	*l = (struct loaded){ 0 };
}

/* A tokenizer of another model would give answers, and they would be nonsense. */
static int join_vocabulary(struct loaded *l, struct err *e)
{
	uint32_t n = tokenizer_n_ids(l->text.tokenizer);

	if (n > l->config.shape.vocab_rows)
		return err_set(e, -EINVAL, "%s: the tokenizer has %" PRIu32 " ids, the embedding %"
			       PRIu32 " rows", l->dir, n, l->config.shape.vocab_rows);
	l->config.shape.n_token_ids = n;
	return 0;
}

static void tell_notes(const struct checkpoint *c)
{
	char line[512];

	for (uint32_t i = 0; checkpoint_note(c, i, line, sizeof(line)); i++)
		log_note("%s", line);
}

static int open_files(const struct load_options *o, struct loaded *l, struct err *e)
{
	enum read_how how = READ_AUTO;
	int r = o->read && read_how_parse(o->read, &how) < 0 ?
			err_set(e, -EINVAL, "read %s: not auto, io_uring, threads or mapped", o->read) :
			hf_dir_find(o->model_dir, &l->dir, e);

	if (r == 0)
		r = hf_config_open(l->dir, &l->config, e);
	if (r == 0)
		r = checkpoint_open(l->dir, &l->config, &l->weights, e);
	if (r == 0)
		r = checkpoint_read_by(l->weights, how, e);
	if (r == 0)
		r = text_model_open(l->dir, &l->text, e);
	if (r == 0)
		tell_notes(l->weights);
	return r == 0 ? join_vocabulary(l, e) : r;
}

int load_model(const struct load_options *o, struct loaded *ret, struct err *e)
{
	struct loaded l = { 0 };
	struct opening op = { o, &l, 0 };
	int r = check_options(o, &l.budget, e);

	if (r == 0)
		r = open_files(o, &l, e);
	if (r == 0)
		r = engine_start(open_device, &op, &l.engine, e);
	if (r < 0) {
		loaded_done(&l);
		return r;
	}
	*ret = l;
	return 0;
}

/* ---- without loading ------------------------------------------------------------------- */

static int only_budget(void *ctx, const struct load_budget *b, struct err *e)
{
	*(struct load_budget *)ctx = *b;
	return err_set(e, -ECANCELED, "only the budget was wanted");
}

static int estimate_cpu(const struct load_options *o, struct load_budget *ret, struct err *e)
{
	struct load_options asked = *o;
	struct loaded l;
	int r;

	asked.ctx = ret;
	asked.on_budget = only_budget;
	r = load_model(&asked, &l, e);
	if (r == 0)
		loaded_done(&l);	/* not reached: on_budget stops every load */
	return r == -ECANCELED ? 0 : r;
}

static int estimate_weights(const struct loaded *l, struct load_budget *b, struct err *e)
{
	CLEANUP(quantized_freep) struct quantized *weights = NULL;
	struct traffic t;

	if (quantized_new(&l->config.shape, checkpoint_source(l->weights), b->quantize, &weights) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	b->quantized = *quantized_facts(weights);
	if (traffic_count(&l->config.shape, quantized_source(weights), &t) < 0)
		return err_set(e, -EINVAL, "%s: the weights cannot be counted", l->dir);
	b->bytes.weights = t.bytes;
	return 0;
}

static int estimate_files(const struct load_options *o, struct load_budget *b, struct err *e)
{
	struct loaded l = { 0 };
	const struct model_shape *s = &l.config.shape;
	int r = check_options(o, b, e);

	if (r == 0)
		r = open_files(o, &l, e);
	if (r == 0)
		r = choose_context(o, s, &b->limits.max_context, e);
	if (r == 0)
		r = estimate_weights(&l, b, e);
	if (r == 0) {
		b->block_bytes = STEP_GRID * traffic_kv_bytes(s, b->limits.kv, true);
		b->limits.n_slots = o->slots;
		r = choose_blocks(o, b, e);
	}
	b->bytes.kv = b->limits.n_blocks * b->block_bytes;
	b->bytes.states = o->slots * (traffic_state_bytes(s) + traffic_kept_bytes(s));	/* on a GPU */
	loaded_done(&l);
	return r;
}

int load_estimate(const struct load_options *o, struct load_budget *ret, struct err *e)
{
	struct load_budget b = { 0 };
	int r = strcmp(o->device, "cpu") ? estimate_files(o, &b, e) : estimate_cpu(o, &b, e);

	if (r < 0)
		return r;
	b.total = sum(&b.bytes);
	*ret = b;
	return 0;
}
