/* device.c - see device.h. */
#include "tests/fake/device.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/measure.h"

enum family { BY_PREFILL = 1, BY_DECODE = 2 };

struct fake_slot {
	bool begun;
	uint64_t *chain;	/* max_context + 1; chain[p]: after p tokens */
	uint32_t n;		/* tokens in the state */
	bool prompt_ended;	/* a prefill left the grid: no more of them */
	bool begun_part;	/* of a prompt in parts, the last one not yet */
	bool has_last;
	uint32_t last;		/* sample */
	uint64_t counted;	/* of output tokens, order does not matter */
	uint64_t prompt_ids;
	struct sampling s;
	int draft;		/* -1: no run yet */
};

struct fake_step {
	uint64_t number;
	uint32_t n;
	struct run_result *results;
};

struct device {
	struct device_limits limits;
	struct fake_slot *slots;
	uint64_t *blocks;	/* n_blocks * STEP_GRID links */
	struct fake_step steps[STEP_AHEAD];
	uint32_t first, n_steps;
	uint64_t n_submits, lose_at, wedge_at;
	uint64_t nan_at, nan_steps;
	uint32_t nan_rows;
	atomic_bool released;
	uint32_t vocab;
	unsigned slow_us;
	struct {
		uint32_t slot, pos, n, next, n_parts;
	} open;			/* the prompt that was begun in parts */
};

static uint64_t mix(uint64_t h, uint64_t x)
{
	h ^= x + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2);
	h *= 0xff51afd7ed558ccdu;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53u;
	return h ^ h >> 29;
}

static uint64_t count_one(uint32_t token)
{
	return mix(77, token);
}

static uint64_t hash_ids(const uint32_t *ids, uint32_t n)
{
	uint64_t h = n;

	for (uint32_t i = 0; i < n; i++)
		h = mix(h, ids[i]);
	return h;
}

static bool is_never(const struct sampling *s, uint32_t token)
{
	for (uint32_t i = 0; i < s->n_never; i++)
		if (s->never[i] == token)
			return true;
	return false;
}

static uint32_t sample_of(uint64_t chain, uint32_t pos, const struct sampling *s, uint64_t counted,
			  uint64_t prompt_ids, uint32_t vocab)
{
	uint64_t h = mix(mix(mix(mix(chain, pos), s->seed), s->choice), counted);

	h = mix(h, prompt_ids);
	h = mix(h, s->temperature > 0 ? 1 : 0);
	for (uint32_t i = 0; i < s->n_bias; i++)
		h = mix(h, s->bias[i].id);
	while (is_never(s, (uint32_t)(h % vocab)))
		h = mix(h, 1);
	return (uint32_t)(h % vocab);
}

void fake_answer(const uint32_t *prompt, uint32_t n_prompt, const struct sampling *s,
		 uint32_t vocab, uint32_t n, uint32_t *ret)
{
	uint64_t h = 1, counted = 0, ids = hash_ids(prompt, n_prompt);

	for (uint32_t i = 0; i < n_prompt; i++)
		h = mix(mix(h, prompt[i]), BY_PREFILL);
	for (uint32_t i = 0; i < n; i++) {
		ret[i] = sample_of(h, n_prompt + i, s, counted, ids, vocab);
		counted += count_one(ret[i]);
		h = mix(mix(h, ret[i]), BY_DECODE);
	}
}

/* ---- the device -------------------------------------------------------------------- */

int device_open(const char *name, const struct model_shape *shape,
		const struct device_limits *limits, struct device **ret, struct err *e)
{
	struct device *d = calloc(1, sizeof(*d));

	if (!d || strcmp(name, "fake"))
		return err_set(e, -ENODEV, "'%s' is not the fake device", name);
	d->limits = *limits;
	d->vocab = shape ? shape->n_token_ids : FAKE_VOCAB;
	d->slots = calloc(limits->n_slots, sizeof(*d->slots));
	d->blocks = calloc((size_t)limits->n_blocks * STEP_GRID, sizeof(*d->blocks));
	for (uint32_t i = 0; i < limits->n_slots; i++) {
		d->slots[i].chain = calloc(limits->max_context + 1, sizeof(uint64_t));
		assert(d->slots[i].chain);
	}
	for (uint32_t i = 0; i < STEP_AHEAD; i++) {
		d->steps[i].results = calloc(limits->n_slots, sizeof(struct run_result));
		assert(d->steps[i].results);
	}
	assert(d->slots && d->blocks);
	*ret = d;
	return 0;
}

static void clear_slot(struct fake_slot *sl)
{
	uint64_t *chain = sl->chain;

	free((void *)(uintptr_t)sl->s.bias);
	free((void *)(uintptr_t)sl->s.never);
	memset(sl, 0, sizeof(*sl));
	sl->chain = chain;
}

struct device *device_close(struct device *d)
{
	if (!d)
		return NULL;
	for (uint32_t i = 0; i < d->limits.n_slots; i++) {
		clear_slot(&d->slots[i]);
		free(d->slots[i].chain);
	}
	for (uint32_t i = 0; i < STEP_AHEAD; i++)
		free(d->steps[i].results);
	free(d->slots);
	free(d->blocks);
	free(d);
	return NULL;
}

void device_budget(const struct device *d, const struct weight_source *w, struct device_budget *ret)
{
	(void)w;
	*ret = (struct device_budget){ 1, (uint64_t)d->limits.n_blocks * 512, 1, 1 };
}

const char *device_numeric_text(const struct device *d)
{
	(void)d;
	return "fake 1";
}

const char *device_load_note(const struct device *d)
{
	(void)d;
	return "";
}

int device_load(struct device *d, const struct weight_source *w, device_progress *progress,
		void *ctx, struct err *e)
{
	(void)d;
	(void)w;
	(void)e;
	return progress ? progress(ctx, 1, 1) : 0;
}

void fake_lose_device(struct device *d, uint64_t at_submit)
{
	d->lose_at = at_submit;
}

void fake_wedge(struct device *d, uint64_t at_submit)
{
	d->wedge_at = at_submit;
}

void fake_release(struct device *d)
{
	atomic_store(&d->released, true);
}

void fake_no_number(struct device *d, uint64_t at_submit, uint64_t n_steps, uint32_t n_rows)
{
	d->nan_at = at_submit;
	d->nan_steps = n_steps;
	d->nan_rows = n_rows;
}

int fake_fault(struct device *d, const char *text)
{
	uint64_t at, steps;
	uint32_t rows;
	unsigned us;

	if (sscanf(text, "slow:%u", &us) == 1)
		fake_slow(d, us);
	else if (sscanf(text, "wedge:%" SCNu64, &at) == 1)
		fake_wedge(d, d->n_submits + at);
	else if (sscanf(text, "lost:%" SCNu64, &at) == 1)
		fake_lose_device(d, d->n_submits + at);
	else if (sscanf(text, "nan:%" SCNu64 ":%" SCNu64 ":%" SCNu32, &at, &steps, &rows) == 3)
		fake_no_number(d, d->n_submits + at, steps, rows);
	else
		return -EINVAL;
	return 0;
}

const char *device_lost_text(struct device *d)
{
	return d->lose_at && d->n_submits >= d->lose_at ? "fake: fell off the bus" : "";
}

void fake_slow(struct device *d, unsigned us)
{
	d->slow_us = us;
}

int slot_begin(struct device *d, uint32_t slot, const struct sampling *s, const uint32_t *prompt,
	       uint32_t n_prompt)
{
	struct fake_slot *sl = &d->slots[slot];
	struct token_bias *bias;
	uint32_t *never;

	assert(slot < d->limits.n_slots);
	if (s->temperature == FAKE_BAD_TEMPERATURE)
		return -EINVAL;
	clear_slot(sl);
	bias = calloc(s->n_bias + 1, sizeof(*bias));
	never = calloc(s->n_never + 1, sizeof(*never));
	assert(bias && never);
	if (s->n_never)
		memcpy(never, s->never, s->n_never * sizeof(*never));
	if (s->n_bias)
		memcpy(bias, s->bias, s->n_bias * sizeof(*bias));
	sl->s = *s;
	sl->s.bias = bias;
	sl->s.never = never;
	sl->prompt_ids = hash_ids(prompt, n_prompt);
	if (d->open.slot == slot)
		memset(&d->open, 0, sizeof(d->open));
	sl->begun = true;
	sl->chain[0] = 1;
	sl->draft = -1;
	return 0;
}

/* ---- the rules on plans -------------------------------------------------------------- */

static void check_run(const struct device *d, const struct plan_run *r, const struct fake_slot *sl)
{
	assert(r->slot < d->limits.n_slots && sl->begun);
	assert(r->n > 0 && r->pos == sl->n);
	assert(r->pos + r->n <= d->limits.max_context);
	assert(r->n_blocks >= (r->pos + r->n + STEP_GRID - 1) / STEP_GRID);
	assert(r->kind != ROW_PREFILL || (!sl->prompt_ended && r->pos % STEP_GRID == 0));
	assert(r->kind != ROW_DECODE || r->n == 1);
	assert(r->input == IN_TOKENS || (r->kind == ROW_DECODE && sl->has_last));
	assert(!r->count || r->kind == ROW_REPLAY);
	assert(r->input == IN_LAST_SAMPLE || r->tokens);
	assert(sl->draft < 0 || sl->draft == r->draft);
	for (uint32_t i = 0; i < r->n_blocks; i++)
		assert(r->blocks[i] < d->limits.n_blocks);
}

/* The same rules of parts as device.c has, which this one takes the place of. */
static void check_parts(const struct device *d, const struct plan *p)
{
	const struct plan_run *r = &p->runs[p->n_runs - 1];
	uint32_t n_prompts = 0;

	assert(p->n_parts > 1 || p->part == 0);
	if (p->n_parts < 2)
		return;
	for (uint32_t i = 0; i < p->n_runs; i++)
		n_prompts += p->runs[i].kind == ROW_PREFILL;
	assert(n_prompts == 1 && r->kind == ROW_PREFILL && r->n <= STEP_PART_ROWS);
	assert(p->part < p->n_parts && p->n_parts <= FAKE_LAYERS);
	assert(p->part == 0 || (d->open.slot == r->slot && d->open.pos == r->pos && d->open.n == r->n &&
				d->open.n_parts == p->n_parts && d->open.next == p->part));
}

static void check_plan(const struct device *d, const struct plan *p)
{
	uint32_t n_rows = 0;

	assert(p->n_runs > 0 && p->n_runs <= d->limits.n_slots);
	for (uint32_t i = 0; i < p->n_runs; i++) {
		check_run(d, &p->runs[i], &d->slots[p->runs[i].slot]);
		n_rows += p->runs[i].n;
		assert(!d->slots[p->runs[i].slot].begun_part || (p->part && i + 1 == p->n_runs));
		for (uint32_t k = 0; k < i; k++)
			assert(p->runs[k].slot != p->runs[i].slot);
	}
	assert(n_rows <= d->limits.max_rows);
	check_parts(d, p);
}

static uint64_t *link_of(struct device *d, const struct plan_run *r, uint32_t pos)
{
	return &d->blocks[(size_t)r->blocks[pos / STEP_GRID] * STEP_GRID + pos % STEP_GRID];
}

static void compute(struct device *d, const struct plan_run *r, struct run_result *ret)
{
	struct fake_slot *sl = &d->slots[r->slot];
	uint64_t kv = 0;

	for (uint32_t p = 0; p < r->pos; p++)	/* "attention" reads all that came before */
		assert(*link_of(d, r, p) == sl->chain[p + 1]);
	for (uint32_t i = 0; i < r->n; i++) {
		uint32_t token = r->input == IN_LAST_SAMPLE ? sl->last : r->tokens[i];
		uint32_t p = r->pos + i;

		sl->chain[p + 1] = mix(mix(sl->chain[p], token),
				       r->kind == ROW_PREFILL ? BY_PREFILL : BY_DECODE);
		*link_of(d, r, p) = sl->chain[p + 1];
		kv = mix(kv, sl->chain[p + 1]);
		if (r->count)
			sl->counted += count_one(token);
	}
	sl->n += r->n;
	sl->begun_part = false;
	sl->draft = r->draft;
	sl->prompt_ended |= r->kind == ROW_PREFILL && r->n % STEP_GRID != 0;
	*ret = (struct run_result){ .slot = r->slot, .sampled = r->sample };
	ret->digest = (struct step_digest){ (uint32_t)sl->chain[sl->n], (uint32_t)sl->counted,
					    (uint32_t)kv, (uint32_t)(sl->chain[sl->n] >> 32) };
	if (!r->sample)
		return;
	ret->token = sample_of(sl->chain[sl->n], sl->n, &sl->s, sl->counted, sl->prompt_ids,
			       d->vocab);
	sl->counted += count_one(ret->token);
	sl->last = ret->token;
	sl->has_last = true;
	ret->drafted = r->draft;
	ret->draft = ret->token % 3 ? ret->token : 0;
	ret->logprob = -1.0f;
}

/* A part that is not the last: what is left in the blocks is of no use to anybody. */
static void begin_part(struct device *d, const struct plan_run *r, struct run_result *ret)
{
	for (uint32_t i = 0; i < r->n; i++)
		*link_of(d, r, r->pos + i) = ~(uint64_t)r->slot;
	d->slots[r->slot].begun_part = true;
	*ret = (struct run_result){ .slot = r->slot };
}

/* What is open once p was taken: see step.h. */
static void note_open(struct device *d, const struct plan *p)
{
	const struct plan_run *r = &p->runs[p->n_runs - 1];

	for (uint32_t i = 0; i < p->n_runs; i++)
		if (p->runs[i].kind == ROW_PREFILL)
			memset(&d->open, 0, sizeof(d->open));
	if (p->part + 1 >= p->n_parts)
		return;
	d->open.slot = r->slot;
	d->open.pos = r->pos;
	d->open.n = r->n;
	d->open.next = p->part + 1;
	d->open.n_parts = p->n_parts;
}

/* Renamed first: of several workers one gets it. */
static void look_for_fault(struct device *d)
{
	const char *path = getenv("HEARTH_FAULT_FILE");
	char mine[1024], text[64] = "";
	FILE *f;

	snprintf(mine, sizeof(mine), "%s.%d", path ? path : "", (int)getpid());
	if (!path || rename(path, mine) < 0)
		return;
	f = fopen(mine, "re");
	assert(f && fgets(text, sizeof(text), f));
	fclose(f);
	unlink(mine);
	assert(fake_fault(d, text) == 0);
}

int device_submit(struct device *d, const struct plan *p)
{
	struct fake_step *st;

	look_for_fault(d);
	if (++d->n_submits >= d->lose_at && d->lose_at)
		return -ENODEV;
	if (d->n_steps == STEP_AHEAD)
		return -EAGAIN;
	check_plan(d, p);
	st = &d->steps[(d->first + d->n_steps++) % STEP_AHEAD];
	st->n = p->n_runs;
	st->number = d->n_submits;
	note_open(d, p);
	for (uint32_t i = 0; i < p->n_runs; i++) {
		if (i + 1 == p->n_runs && p->part + 1 < p->n_parts)
			begin_part(d, &p->runs[i], &st->results[i]);
		else
			compute(d, &p->runs[i], &st->results[i]);
		st->results[i].no_number = st->results[i].sampled && i < d->nan_rows &&
					   st->number >= d->nan_at &&
					   st->number - d->nan_at < d->nan_steps;
	}
	return 0;
}

int device_collect(struct device *d, struct run_result *ret, uint32_t n)
{
	struct fake_step *st = &d->steps[d->first];

	if (!d->n_steps)
		return -ENOENT;
	if (d->slow_us)
		usleep(d->slow_us);
	while (d->wedge_at && st->number >= d->wedge_at && !atomic_load(&d->released))
		usleep(1000);
	assert(n >= st->n);
	memcpy(ret, st->results, st->n * sizeof(*ret));
	d->first = (d->first + 1) % STEP_AHEAD;
	d->n_steps--;
	return (int)st->n;
}

/* ---- states: not used through the fake ------------------------------------------------- */

size_t state_bytes(const struct device *d)
{
	(void)d;
	return 8;
}

size_t block_bytes(const struct device *d)
{
	(void)d;
	return STEP_GRID * sizeof(uint64_t);
}

int state_save(struct device *d, uint32_t slot, void *ret)
{
	memcpy(ret, &d->slots[slot].chain[d->slots[slot].n], 8);
	return 0;
}

int state_restore(struct device *d, uint32_t slot, const void *from)
{
	memcpy(&d->slots[slot].chain[d->slots[slot].n], from, 8);
	return 0;
}

int block_save(struct device *d, kv_block b, void *ret)
{
	memcpy(ret, &d->blocks[(size_t)b * STEP_GRID], block_bytes(d));
	return 0;
}

int block_restore(struct device *d, kv_block b, const void *from)
{
	memcpy(&d->blocks[(size_t)b * STEP_GRID], from, block_bytes(d));
	return 0;
}

int device_measure(struct device *d, enum measure what, struct device_measures *ret)
{
	(void)d;
	*ret = (struct device_measures){ .prompt_rows = 256 };
	return what == MEASURE_DEVICE ? 0 : -ENOTSUP;
}

int device_profile(struct device *d, bool on)
{
	(void)d;
	(void)on;
	return -ENOTSUP;
}
