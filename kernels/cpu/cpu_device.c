/* cpu_device.c - the CPU back end behind step.h: memory, and the thread that runs steps.
 *
 * Commands (a step, or a new sequence in a slot) go through one queue to the step thread
 * in the order in which they were given.  The caller's thread reads and writes states and
 * blocks only when the queue is empty and the thread idle.
 */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

struct command {
	struct command *next;
	struct sampler *sampler;	/* a new sequence in `slot`; NULL: a step */
	uint32_t slot;
	struct step step;
	struct run_result *results;
	uint32_t *tokens;		/* copies of what the plan pointed to */
	kv_block *blocks;
};

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t work, done;
	struct command *first, **last;		/* to run */
	struct command *done_first, **done_last;	/* to collect */
	uint32_t in_flight;			/* steps submitted and not collected */
	bool busy, stop, started;
	pthread_t thread;
};

static struct cpu_device *cpu(const struct device *d)
{
	return (struct cpu_device *)d;
}

static struct command *command_free(struct command *c)
{
	sampler_free(c->sampler);
	free(c->step.runs);
	free(c->results);
	free(c->tokens);
	free(c->blocks);
	free(c);
	return NULL;
}

/* ---- the step thread ------------------------------------------------------------------ */

static void run_begin(struct cpu_device *d, struct command *c)
{
	struct slot *s = &d->slots[c->slot];

	sampler_free(s->sampler);
	s->sampler = c->sampler;
	s->last = 0;
	c->sampler = NULL;
	memset(s->state, 0, d->state_floats * sizeof(float));
}

static void *step_main(void *arg)
{
	struct cpu_device *d = arg;
	struct queue *q = d->queue;

	pthread_mutex_lock(&q->lock);
	for (;;) {
		while (!q->first && !q->stop)
			pthread_cond_wait(&q->work, &q->lock);
		struct command *c = q->first;
		if (!c)
			break;
		q->first = c->next;
		if (!q->first)
			q->last = &q->first;
		c->next = NULL;
		q->busy = true;
		pthread_mutex_unlock(&q->lock);
		bool step = c->step.n_runs > 0;
		if (step)
			cpu_run_step(d, &c->step, c->results);
		else
			run_begin(d, c);
		pthread_mutex_lock(&q->lock);
		q->busy = false;
		if (step) {
			*q->done_last = c;
			q->done_last = &c->next;
		} else {
			command_free(c);
		}
		pthread_cond_broadcast(&q->done);
	}
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

static void enqueue(struct queue *q, struct command *c)
{
	pthread_mutex_lock(&q->lock);
	q->in_flight += c->step.n_runs > 0;
	*q->last = c;
	q->last = &c->next;
	pthread_cond_signal(&q->work);
	pthread_mutex_unlock(&q->lock);
}

static void wait_idle(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	while (q->first || q->busy)
		pthread_cond_wait(&q->done, &q->lock);
	pthread_mutex_unlock(&q->lock);
}

/* ---- submit and collect --------------------------------------------------------------- */

static int copy_runs(struct cpu_device *d, const struct plan *p, struct command *c)
{
	size_t n_tokens = 0, n_blocks = 0;

	for (uint32_t i = 0; i < p->n_runs; i++) {
		n_tokens += p->runs[i].n;
		n_blocks += p->runs[i].n_blocks;
	}
	c->step.runs = calloc(p->n_runs, sizeof(c->step.runs[0]));
	c->results = calloc(p->n_runs, sizeof(c->results[0]));
	c->tokens = calloc(n_tokens, sizeof(c->tokens[0]));
	c->blocks = calloc(n_blocks, sizeof(c->blocks[0]));
	if (!c->step.runs || !c->results || !c->tokens || !c->blocks)
		return -ENOMEM;
	uint32_t *t = c->tokens;
	kv_block *b = c->blocks;
	for (uint32_t i = 0; i < p->n_runs; i++) {
		struct run_rows *r = &c->step.runs[i];

		r->p = p->runs[i];
		r->row = c->step.n_rows;
		r->state = d->slots[r->p.slot].state;
		if (r->p.input == IN_TOKENS)
			memcpy(t, r->p.tokens, r->p.n * sizeof(*t));
		memcpy(b, r->p.blocks, r->p.n_blocks * sizeof(*b));
		r->p.tokens = t;
		r->p.blocks = b;
		t += r->p.n;
		b += r->p.n_blocks;
		c->step.n_rows += r->p.n;
	}
	c->step.n_runs = p->n_runs;
	c->step.part = p->part;
	c->step.n_parts = p->n_parts;
	return 0;
}

static int cpu_submit(struct device *base, const struct plan *p)
{
	struct cpu_device *d = cpu(base);

	if (d->queue->in_flight >= STEP_AHEAD)
		return -EAGAIN;
	for (uint32_t i = 0; i < p->n_runs; i++)	/* a draft needs an MTP layer */
		if (p->runs[i].draft && !base->shape.n_mtp_layers)
			return -EINVAL;
	struct command *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	int r = copy_runs(d, p, c);
	if (r < 0) {
		command_free(c);
		return r;
	}
	enqueue(d->queue, c);
	return 0;
}

static int cpu_collect(struct device *base, struct run_result *ret, uint32_t n)
{
	struct queue *q = cpu(base)->queue;

	if (!q || q->in_flight == 0)
		return -ENOENT;
	pthread_mutex_lock(&q->lock);
	while (!q->done_first)
		pthread_cond_wait(&q->done, &q->lock);
	struct command *c = q->done_first;
	int count = (int)c->step.n_runs;
	if ((uint32_t)count <= n) {
		q->done_first = c->next;
		if (!q->done_first)
			q->done_last = &q->done_first;
		q->in_flight--;
	}
	pthread_mutex_unlock(&q->lock);
	if ((uint32_t)count > n)
		return -EINVAL;
	memcpy(ret, c->results, (size_t)count * sizeof(ret[0]));
	command_free(c);
	return count;
}

static int cpu_slot_begin(struct device *base, uint32_t slot, const struct sampling *s,
			  const uint32_t *prompt, uint32_t n_prompt)
{
	struct cpu_device *d = cpu(base);
	struct command *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->slot = slot;
	int r = sampler_new(s, base->shape.vocab_rows, prompt, n_prompt, &c->sampler);
	if (r < 0) {
		command_free(c);
		return r;
	}
	enqueue(d->queue, c);
	return 0;
}

/* ---- states and blocks ------------------------------------------------------------------ */

static size_t cpu_state_bytes(const struct device *base)
{
	return cpu(base)->state_floats * sizeof(float);
}

static size_t cpu_block_bytes(const struct device *base)
{
	return cpu(base)->block_bytes;
}

static char *block_at(struct cpu_device *d, kv_block b)
{
	return d->kv + b * d->block_bytes;
}

static int cpu_state_save(struct device *base, uint32_t slot, void *ret)
{
	wait_idle(cpu(base)->queue);
	memcpy(ret, cpu(base)->slots[slot].state, cpu_state_bytes(base));
	return 0;
}

static int cpu_state_restore(struct device *base, uint32_t slot, const void *from)
{
	wait_idle(cpu(base)->queue);
	memcpy(cpu(base)->slots[slot].state, from, cpu_state_bytes(base));
	return 0;
}

static int cpu_block_save(struct device *base, kv_block b, void *ret)
{
	wait_idle(cpu(base)->queue);
	memcpy(ret, block_at(cpu(base), b), cpu_block_bytes(base));
	return 0;
}

static int cpu_block_restore(struct device *base, kv_block b, const void *from)
{
	wait_idle(cpu(base)->queue);
	memcpy(block_at(cpu(base), b), from, cpu_block_bytes(base));
	return 0;
}

/* ---- open, load, close -------------------------------------------------------------------- */

static struct device *cpu_close(struct device *base)
{
	struct cpu_device *d = cpu(base);
	struct queue *q = d->queue;

	if (q && q->started) {
		wait_idle(q);
		pthread_mutex_lock(&q->lock);
		q->stop = true;
		pthread_cond_signal(&q->work);
		pthread_mutex_unlock(&q->lock);
		pthread_join(q->thread, NULL);
	}
	for (struct command *c = q ? q->done_first : NULL, *next; c; c = next) {
		next = c->next;
		command_free(c);
	}
	for (uint32_t i = 0; d->slots && i < d->base.limits.n_slots; i++)
		sampler_free(d->slots[i].sampler);
	if (q) {
		pthread_cond_destroy(&q->done);
		pthread_cond_destroy(&q->work);
		pthread_mutex_destroy(&q->lock);
	}
	free(q);
	slabs_free(&d->slabs);
	free(d->inv_freq);
	pool_free(d->pool);
	free(d);
	return NULL;
}

static int start_thread(struct cpu_device *d)
{
	struct queue *q = calloc(1, sizeof(*q));

	if (!q)
		return -ENOMEM;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->work, NULL);
	pthread_cond_init(&q->done, NULL);
	q->last = &q->first;
	q->done_last = &q->done_first;
	d->queue = q;
	int r = pthread_create(&q->thread, NULL, step_main, d);
	q->started = r == 0;
	return -r;
}

static int alloc_slots(struct cpu_device *d)
{
	const struct sampling plain = { .top_p = 1, .repetition = 1 };
	uint32_t n = d->base.limits.n_slots;
	int r = 0;

	d->slots = cpu_alloc(d, n, sizeof(d->slots[0]));
	d->kv = cpu_alloc(d, d->base.limits.n_blocks * (d->block_bytes / 4), 4);
	d->kv_codes = cpu_alloc(d, d->base.shape.head_dim, 1);
	if (!d->slots || !d->kv || !d->kv_codes)
		return -ENOMEM;
	for (uint32_t i = 0; r == 0 && i < n; i++) {
		d->slots[i].state = cpu_alloc(d, d->state_floats, sizeof(float));
		r = d->slots[i].state ? sampler_new(&plain, d->base.shape.vocab_rows, NULL, 0,
						    &d->slots[i].sampler) : -ENOMEM;
	}
	return r;
}

static int cpu_load(struct device *base, const struct weight_source *w, device_progress *progress,
		    void *ctx, struct err *e)
{
	struct cpu_device *d = cpu(base);
	int r;

	if (d->slabs.n)
		return err_set(e, -EINVAL, "device: an earlier load failed; open it again");
	r = cpu_load_weights(d, w, progress, ctx, e);
	if (r < 0)
		return r;
	if (d->fp4_used)
		snprintf(d->text + strlen(d->text), sizeof(d->text) - strlen(d->text),
			 " prefill-fp4=%s", fp4_prefill_name(d->fp4));
	r = alloc_slots(d);
	if (r == 0)
		r = cpu_alloc_rooms(d);
	if (r == 0)
		r = start_thread(d);
	return r < 0 ? err_set(e, r, "cpu: out of memory for cache, states and workspace") : 0;
}

static int hook_measure(struct device *base, enum measure what, struct device_measures *ret)
{
	if (cpu(base)->queue)
		wait_idle(cpu(base)->queue);
	return cpu_measure(cpu(base), what, ret);
}

static const char *cpu_numeric_text(const struct device *base)
{
	return cpu(base)->text;
}

static const char *cpu_load_note(const struct device *base)
{
	return base->limits.fp4 == FP4_PREFILL_OFF || cpu(base)->fp4_used ?
		       "" :
		       "prefill-fp4 is NOT in use: no such matrix of this model is NVFP4";
}

static const struct backend cpu_backend = {
	.close = cpu_close,
	.budget = cpu_budget,
	.numeric_text = cpu_numeric_text,
	.load_note = cpu_load_note,
	.load = cpu_load,
	.slot_begin = cpu_slot_begin,
	.submit = cpu_submit,
	.collect = cpu_collect,
	.state_bytes = cpu_state_bytes,
	.block_bytes = cpu_block_bytes,
	.state_save = cpu_state_save,
	.state_restore = cpu_state_restore,
	.block_save = cpu_block_save,
	.block_restore = cpu_block_restore,
	.measure = hook_measure,
};

static int check_shape(const struct model_shape *s, struct err *e)
{
	if (s->hidden % LANES || s->head_dim % LANES || s->gdn_head_dim % LANES)
		return err_set(e, -ENOTSUP, "cpu: hidden size %u and head sizes %u, %u must be multiples of "
			       "%d", s->hidden, s->head_dim, s->gdn_head_dim, LANES);
	if (s->n_experts_used > 64 || s->gdn_conv_width > 16 || s->rotary_dim > s->head_dim ||
	    s->n_token_ids > s->vocab_rows || s->n_token_ids == 0)
		return err_set(e, -ENOTSUP, "cpu: a shape with %u experts a token, convolution width %u",
			       s->n_experts_used, s->gdn_conv_width);
	return 0;
}

/* Inverse frequencies, stretched by YaRN where the model says so. */
static void fill_inv_freq(const struct model_shape *s, double *ret)
{
	double dim = s->rotary_dim, base = s->rope_theta, pi = 3.14159265358979323846;
	double rot = (double)s->yarn_original / (2 * pi);
	double low = floor(dim * log(rot / 32) / (2 * log(base)));
	double high = ceil(dim * log(rot) / (2 * log(base)));

	low = low < 0 ? 0 : low;
	high = high > dim - 1 ? dim - 1 : high;
	high = high <= low ? low + 0.001 : high;
	for (uint32_t j = 0; j < s->rotary_dim / 2; j++) {
		double f = pow(base, -2.0 * j / dim), ramp = (j - low) / (high - low);

		ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
		ret[j] = s->yarn_factor > 1 ? f / s->yarn_factor * ramp + f * (1 - ramp) : f;
	}
}

static void count_layers(struct cpu_device *d)
{
	const struct model_shape *s = &d->base.shape;
	size_t dim = s->gdn_head_dim;

	for (uint32_t i = 0; i < s->n_layers; i++) {
		d->n_gdn += s->mixer[i] == MIXER_GDN;
		d->n_attn += s->mixer[i] == MIXER_ATTENTION;
	}
	d->n_attn += s->n_mtp_layers;
	cpu_kv_init(d);
	d->state_floats = d->n_gdn * (s->gdn_v_heads * dim * dim +
				      (size_t)(s->gdn_conv_width - 1) * gdn_channels(s)) + s->hidden;
}

int cpu_device_open(const struct model_shape *shape, const struct device_limits *limits,
		    struct device **ret, struct err *e)
{
	const char *forced = getenv("HEARTH_CPU_PATH");
	int r = check_shape(shape, e);

	if (r < 0)
		return r;
	if (limits->n_threads > 1024)
		return err_set(e, -EINVAL, "cpu: %u threads", limits->n_threads);
	struct cpu_device *d = calloc(1, sizeof(*d));
	if (!d)
		return err_set(e, -ENOMEM, "out of memory");
	d->base = (struct device){ .backend = &cpu_backend, .shape = *shape, .limits = *limits };
	d->path = forced ? cpu_path_named(forced) : cpu_path_best();
	d->round = limits->numerics == NUMERICS_BF16;
	d->fp4 = d->round ? limits->fp4 : FP4_PREFILL_OFF;
	d->inv_freq = calloc(shape->rotary_dim / 2 + 1, sizeof(double));
	r = !d->path ? -EINVAL : !d->inv_freq ? -ENOMEM : pool_new(limits->n_threads, &d->pool);
	if (r < 0) {
		cpu_close(&d->base);
		return err_set(e, r, r == -EINVAL ? "HEARTH_CPU_PATH: no such path here" :
						    "cpu: cannot start its threads");
	}
	fill_inv_freq(shape, d->inv_freq);
	count_layers(d);
	snprintf(d->text, sizeof(d->text), "cpu numerics=1 %s%s", d->round ? "bf16" : "f32",
		 limits->kv == KV_FP8 ? " kv=fp8" : "");
	*ret = &d->base;
	return 0;
}
