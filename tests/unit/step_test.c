/* step_test.c - the promises of kernels/step.h on the CPU back end: bits, not tolerances.
 *
 * A sequence is PROMPT tokens and ANSWER sampled ones.  However it is run, the digests of
 * its last prompt row, of every answer row and of its state must be the same.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/dequant.h"
#include "kernels/step.h"
#include "tests/fake/random_model.h"
#include "tests/unit/unit.h"

#define PROMPT 150
#define ANSWER 9
#define BLOCKS 3	/* of a sequence */
#define SLOTS 5

static struct model_shape shape;
static enum kv_format kv = KV_BF16;	/* of open_device() */

static uint32_t prompt_token(uint32_t who, uint32_t i)
{
	return (who * 131u + i * i * 7u + i * 3u + 1u) % 199u;
}

static struct device *open_device(uint32_t threads, enum step_numerics numerics)
{
	const struct device_limits limits = { .n_slots = SLOTS, .n_blocks = SLOTS * BLOCKS,
		.max_rows = 512, .max_context = BLOCKS * STEP_GRID, .n_threads = threads,
		.numerics = numerics, .digests = true, .kv = kv };
	struct random_model *model;
	struct device *d;
	struct err e;

	OK(random_model_new(&shape, WF_F32, 1, &model));
	OK(device_open("cpu", &shape, &limits, &d, &e));
	OK(device_load(d, random_model_source(model), NULL, NULL, &e));
	random_model_free(model);	/* the device has its own copy */
	return d;
}

static const struct sampling some_sampling = { .temperature = 0.9f, .top_p = 0.95f, .top_k = 40,
	.min_p = 0.001f, .repetition = 1.1f, .presence = 0.1f, .frequency = 0.05f, .seed = 77,
	.n_top = 3, .logprob = true };

/* What a sequence leaves behind. */
struct trace {
	uint32_t token[ANSWER + 1], draft[ANSWER + 1];
	float logprob[ANSWER + 1];
	struct step_digest digest[ANSWER + 1];
	char *blocks[BLOCKS];
};

static void begin(struct device *d, uint32_t slot, uint32_t who)
{
	uint32_t prompt[PROMPT];

	for (uint32_t i = 0; i < PROMPT; i++)
		prompt[i] = prompt_token(who, i);
	OK(slot_begin(d, slot, &some_sampling, prompt, PROMPT));
}

static void own_blocks(uint32_t slot, kv_block *b)
{
	for (uint32_t i = 0; i < BLOCKS; i++)
		b[i] = slot + i * SLOTS;
}

static uint32_t n_parts = 1;	/* that prompts are taken in */

/* One run of `r`, among runs of the other slots when `noise` is not 0. */
static void step(struct device *d, struct plan_run *r, uint32_t noise, struct run_result *ret)
{
	static uint32_t at[SLOTS];
	struct plan_run runs[SLOTS];
	struct run_result results[SLOTS];
	uint32_t tokens[SLOTS][STEP_GRID], n = 0, mine = 0;
	kv_block blocks[SLOTS][BLOCKS];

	for (uint32_t s = 0; s < SLOTS; s++) {
		if (s == r->slot) {
			mine = n;
			runs[n++] = *r;
			continue;
		}
		if (noise == 0 || (noise + s) % 3 == 0)
			continue;
		bool prefill = (noise + s) % 2 && n_parts == 1;
		if (at[s] + STEP_GRID > BLOCKS * STEP_GRID || at[s] % STEP_GRID)
			at[s] = 0;
		uint32_t pos = prefill ? at[s] : 11 + noise % 5, many = prefill ? STEP_GRID : 1;
		own_blocks(s, blocks[s]);
		for (uint32_t i = 0; i < many; i++)
			tokens[s][i] = prompt_token(s + noise, i);
		runs[n++] = (struct plan_run){ .slot = s, .kind = prefill ? ROW_PREFILL : ROW_DECODE,
			.pos = pos, .n = many, .tokens = tokens[s], .blocks = blocks[s],
			.n_blocks = BLOCKS, .sample = true, .draft = true };
		at[s] += prefill ? STEP_GRID : 0;
	}
	const uint32_t parts = r->kind == ROW_PREFILL ? n_parts : 1;
	if (parts > 1) {
		runs[mine] = runs[n - 1];
		runs[mine = n - 1] = *r;
	}
	for (uint32_t part = 0; part < parts; part++) {
		const struct plan p = { runs, n, part, parts };

		OK(device_submit(d, &p));
		EQ(device_collect(d, results, SLOTS), n);
		EQ(results[mine].slot, r->slot);
		assert_true(part + 1 == parts || !results[mine].sampled);
	}
	*ret = results[mine];
}

static void keep(struct trace *t, uint32_t i, const struct run_result *r)
{
	t->token[i] = r->token;
	t->draft[i] = r->draft;
	t->logprob[i] = r->logprob;
	t->digest[i] = r->digest;
}

static void prefill(struct device *d, uint32_t slot, uint32_t who, uint32_t from, uint32_t cut,
		    uint32_t noise, struct trace *t)
{
	uint32_t tokens[PROMPT];
	kv_block blocks[BLOCKS];
	struct run_result res;

	own_blocks(slot, blocks);
	for (uint32_t i = 0; i < PROMPT; i++)
		tokens[i] = prompt_token(who, i);
	for (uint32_t at = from; at < PROMPT; at += cut) {
		uint32_t n = PROMPT - at < cut ? PROMPT - at : cut;
		struct plan_run r = { .slot = slot, .kind = ROW_PREFILL, .pos = at, .n = n,
				      .tokens = tokens + at, .blocks = blocks, .n_blocks = BLOCKS,
				      .sample = at + n == PROMPT, .draft = true };

		step(d, &r, noise ? noise + at : 0, &res);
	}
	keep(t, 0, &res);
}

static void decode(struct device *d, uint32_t slot, uint32_t noise, struct trace *t)
{
	kv_block blocks[BLOCKS];
	struct run_result res;

	own_blocks(slot, blocks);
	for (uint32_t i = 1; i <= ANSWER; i++) {
		struct plan_run r = { .slot = slot, .kind = ROW_DECODE,
				      .input = i % 2 ? IN_LAST_SAMPLE : IN_TOKENS, .pos = PROMPT + i - 1,
				      .n = 1, .tokens = &t->token[i - 1], .blocks = blocks,
				      .n_blocks = BLOCKS, .sample = true, .draft = true };

		step(d, &r, noise ? noise + i : 0, &res);
		keep(t, i, &res);
	}
}

static void read_blocks(struct device *d, uint32_t slot, struct trace *t)
{
	kv_block blocks[BLOCKS];

	own_blocks(slot, blocks);
	for (uint32_t i = 0; i < BLOCKS; i++) {
		t->blocks[i] = calloc(1, block_bytes(d));
		OK(block_save(d, blocks[i], t->blocks[i]));
	}
}

static void free_trace(struct trace *t)
{
	for (uint32_t i = 0; i < BLOCKS; i++)
		free(t->blocks[i]);
}

/* What an earlier owner left in the blocks must not matter; here it is the same each time,
 * so that whole blocks can be compared. */
static void soil_blocks(struct device *d, uint32_t slot)
{
	kv_block blocks[BLOCKS];
	char *soil = malloc(block_bytes(d));

	assert_non_null(soil);
	memset(soil, 0x3f, block_bytes(d));
	own_blocks(slot, blocks);
	for (uint32_t i = 0; i < BLOCKS; i++)
		OK(block_restore(d, blocks[i], soil));
	free(soil);
}

static void sequence(struct device *d, uint32_t slot, uint32_t cut, uint32_t noise, struct trace *t)
{
	memset(t, 0, sizeof(*t));
	soil_blocks(d, slot);
	begin(d, slot, 1);
	prefill(d, slot, 1, 0, cut, noise, t);
	decode(d, slot, noise, t);
	read_blocks(d, slot, t);
}

static void same(struct device *d, const struct trace *a, const struct trace *b)
{
	assert_memory_equal(a->token, b->token, sizeof(a->token));
	assert_memory_equal(a->draft, b->draft, sizeof(a->draft));
	assert_memory_equal(a->logprob, b->logprob, sizeof(a->logprob));
	for (uint32_t i = 0; i <= ANSWER; i++) {
		EQ(a->digest[i].hidden, b->digest[i].hidden);
		EQ(a->digest[i].logits, b->digest[i].logits);
		EQ(a->digest[i].state, b->digest[i].state);
		if (i)	/* of the prompt's last run, which may have been longer */
			EQ(a->digest[i].kv, b->digest[i].kv);
	}
	for (uint32_t i = 0; i < BLOCKS; i++)
		assert_memory_equal(a->blocks[i], b->blocks[i], block_bytes(d));
}

static void check_everything(bool dense)
{
	struct trace alone, other;

	shape = random_shape(dense ? RANDOM_DENSE : RANDOM_MOE);
	struct device *d = open_device(1, NUMERICS_BF16);
	sequence(d, 0, 64, 0, &alone);
	for (uint32_t cut = 64; cut <= 192; cut += 64) {
		sequence(d, 2, cut, 0, &other);
		same(d, &alone, &other);
		free_trace(&other);
	}
	for (uint32_t noise = 1; noise < 5; noise++) {
		sequence(d, noise, 64 * (1 + noise % 2), 10 * noise, &other);
		same(d, &alone, &other);
		free_trace(&other);
	}
	for (n_parts = 2; n_parts <= shape.n_layers; n_parts++) {
		sequence(d, n_parts % SLOTS, 64 * (1 + n_parts % 3), n_parts % 2 * 10, &other);
		same(d, &alone, &other);
		free_trace(&other);
	}
	n_parts = 1;
	device_close(d);
	for (uint32_t threads = 2; threads < 5; threads++) {
		d = open_device(threads, NUMERICS_BF16);
		sequence(d, 1, 128, 3, &other);
		same(d, &alone, &other);
		free_trace(&other);
		device_close(d);
	}
	free_trace(&alone);
}

TEST(the_same_bits_alone_among_others_in_all_cuts_and_on_any_threads_with_experts)
{
	check_everything(false);
}

TEST(the_same_bits_alone_among_others_in_all_cuts_and_on_any_threads_dense)
{
	check_everything(true);
}

TEST(the_same_bits_on_every_instruction_set_of_this_machine)
{
	static const char *const paths[] = { "base", "avx2", "avx512" };
	struct trace first, other;
	bool have = false;

	shape = random_shape(RANDOM_MOE);
	for (size_t i = 0; i < 3; i++) {
		const struct device_limits limits = { .n_slots = 1, .n_blocks = 1, .max_rows = 64,
						      .max_context = 64 };
		struct device *d;

		setenv("HEARTH_CPU_PATH", paths[i], 1);
		if (device_open("cpu", &shape, &limits, &d, NULL) == 0) {
			device_close(d);
			d = open_device(2, NUMERICS_BF16);
			sequence(d, 1, 128, 0, have ? &other : &first);
			if (have) {
				same(d, &first, &other);
				free_trace(&other);
			}
			have = true;
			device_close(d);
		}
	}
	unsetenv("HEARTH_CPU_PATH");
	assert_true(have);
	free_trace(&first);
}

/* Known tokens, several a step, through the decode kernels. */
static void replay(struct device *d, uint32_t slot, uint32_t many, struct trace *t)
{
	kv_block blocks[BLOCKS];
	struct run_result res;

	own_blocks(slot, blocks);
	for (uint32_t at = 0; at < ANSWER; at += many) {
		uint32_t n = ANSWER - at < many ? ANSWER - at : many;
		struct plan_run r = { .slot = slot, .kind = ROW_REPLAY, .pos = PROMPT + at, .n = n,
				      .tokens = t->token + at, .blocks = blocks, .n_blocks = BLOCKS,
				      .sample = at + n == ANSWER, .count = true, .draft = true };

		step(d, &r, many, &res);
	}
	keep(t, ANSWER, &res);
}

TEST(replayed_tokens_leave_the_bits_of_decoded_ones)
{
	struct trace decoded;

	shape = random_shape(RANDOM_MOE);
	struct device *d = open_device(2, NUMERICS_BF16);
	sequence(d, 0, 64, 0, &decoded);
	for (uint32_t many = 1; many <= ANSWER; many += 2) {
		struct trace t = { .token = { 0 } };

		/* The first token counts when it is replayed: the prompt does not sample it. */
		soil_blocks(d, 3);
		begin(d, 3, 1);
		uint32_t tokens[PROMPT];
		kv_block blocks[BLOCKS];
		struct run_result res;

		own_blocks(3, blocks);
		for (uint32_t i = 0; i < PROMPT; i++)
			tokens[i] = prompt_token(1, i);
		struct plan_run r = { .slot = 3, .kind = ROW_PREFILL, .n = PROMPT, .tokens = tokens,
				      .blocks = blocks, .n_blocks = BLOCKS, .draft = true };
		step(d, &r, 0, &res);
		memcpy(t.token, decoded.token, sizeof(t.token));
		replay(d, 3, many, &t);
		EQ(t.token[ANSWER], decoded.token[ANSWER]);
		EQ(t.draft[ANSWER], decoded.draft[ANSWER]);
		assert_memory_equal(&t.logprob[ANSWER], &decoded.logprob[ANSWER], sizeof(float));
		EQ(t.digest[ANSWER].hidden, decoded.digest[ANSWER].hidden);
		EQ(t.digest[ANSWER].logits, decoded.digest[ANSWER].logits);
		EQ(t.digest[ANSWER].state, decoded.digest[ANSWER].state);
		read_blocks(d, 3, &t);
		for (uint32_t i = 0; i < BLOCKS; i++)
			assert_memory_equal(t.blocks[i], decoded.blocks[i], block_bytes(d));
		free_trace(&t);
	}
	free_trace(&decoded);
	device_close(d);
}

TEST(a_saved_state_and_its_blocks_continue_bit_for_bit)
{
	struct trace whole, t;

	memset(&t, 0, sizeof(t));
	shape = random_shape(RANDOM_DENSE);
	struct device *d = open_device(2, NUMERICS_BF16);
	sequence(d, 0, 64, 0, &whole);
	char *state = calloc(1, state_bytes(d)), *block = calloc(1, block_bytes(d));
	uint32_t tokens[PROMPT];
	kv_block from[BLOCKS], to[BLOCKS];
	struct run_result res;

	own_blocks(1, from);
	own_blocks(4, to);
	for (uint32_t i = 0; i < PROMPT; i++)
		tokens[i] = prompt_token(1, i);
	soil_blocks(d, 1);
	begin(d, 1, 1);
	struct plan_run r = { .slot = 1, .kind = ROW_PREFILL, .n = 128, .tokens = tokens, .blocks = from,
			      .n_blocks = BLOCKS, .draft = true };
	step(d, &r, 0, &res);
	OK(state_save(d, 1, state));
	soil_blocks(d, 4);
	begin(d, 4, 1);
	OK(state_restore(d, 4, state));
	for (uint32_t i = 0; i < 2; i++) {
		OK(block_save(d, from[i], block));
		OK(block_restore(d, to[i], block));
	}
	prefill(d, 4, 1, 128, 64, 0, &t);
	decode(d, 4, 0, &t);
	read_blocks(d, 4, &t);
	same(d, &whole, &t);
	free(state);
	free(block);
	free_trace(&t);
	free_trace(&whole);
	device_close(d);
}

TEST(prefill_and_decode_agree_within_rounding)
{
	shape = random_shape(RANDOM_MOE);
	struct device *d = open_device(2, NUMERICS_F32);
	uint32_t v = shape.vocab_rows, tokens[PROMPT];
	float *a = calloc(PROMPT * v, sizeof(float)), *b = calloc(PROMPT * v, sizeof(float));
	kv_block blocks[BLOCKS];
	struct run_result res;
	double err = 0, sum = 0;

	for (uint32_t i = 0; i < PROMPT; i++)
		tokens[i] = prompt_token(3, i);
	own_blocks(0, blocks);
	struct plan_run r = { .slot = 0, .kind = ROW_PREFILL, .n = PROMPT, .tokens = tokens,
			      .blocks = blocks, .n_blocks = BLOCKS, .logits = a };
	begin(d, 0, 1);
	step(d, &r, 0, &res);
	begin(d, 0, 1);
	r.kind = ROW_REPLAY;
	r.logits = b;
	step(d, &r, 0, &res);
	for (uint32_t i = 0; i < PROMPT * v; i++) {
		err += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
		sum += (double)a[i] * (double)a[i];
	}
	assert_true(sum > 1);
	assert_true(err < 1e-8 * sum);
	free(a);
	free(b);
	device_close(d);
}

TEST(a_plan_that_breaks_a_rule_is_refused_and_changes_nothing)
{
	shape = random_shape(RANDOM_MOE);
	struct device *d = open_device(1, NUMERICS_BF16);
	uint32_t tokens[2] = { 1, 2 }, wild = 100000;
	kv_block blocks[BLOCKS] = { 0, 1, 2 }, far = SLOTS * BLOCKS;
	const struct plan_run good = { .kind = ROW_PREFILL, .n = 2, .tokens = tokens, .blocks = blocks,
				       .n_blocks = BLOCKS };
	struct plan_run bad[8] = { good, good, good, good, good, good, good, good };

	bad[0].pos = 3;			/* not on the grid */
	bad[1].slot = SLOTS;
	bad[2].n = 0;
	bad[3].n_blocks = 0;
	bad[4].blocks = &far;
	bad[4].n_blocks = 1;
	bad[5].tokens = &wild;
	bad[5].n = 1;
	bad[6].kind = ROW_DECODE;	/* of two rows */
	bad[7].pos = BLOCKS * STEP_GRID;
	for (size_t i = 0; i < 8; i++) {
		const struct plan p = { .runs = &bad[i], .n_runs = 1 };

		EQ(device_submit(d, &p), -EINVAL);
	}
	const struct plan_run twice[2] = { good, good };
	const struct plan p = { .runs = twice, .n_runs = 2 }, ok = { .runs = &good, .n_runs = 1 };
	EQ(device_submit(d, &p), -EINVAL);
	struct run_result res;
	EQ(device_collect(d, &res, 1), -ENOENT);
	for (int i = 0; i < STEP_AHEAD; i++)
		OK(device_submit(d, &ok));
	EQ(device_submit(d, &ok), -EAGAIN);
	for (int i = 0; i < STEP_AHEAD; i++)
		EQ(device_collect(d, &res, 1), 1);
	device_close(d);
}

TEST(a_prompt_in_parts_that_breaks_a_rule_is_refused_and_one_can_be_given_up)
{
	shape = random_shape(RANDOM_MOE);
	struct device *d = open_device(1, NUMERICS_BF16);
	uint32_t tokens[2] = { 1, 2 };
	kv_block blocks[BLOCKS] = { 0, 1, 2 };
	const struct plan_run one = { .kind = ROW_PREFILL, .n = 2, .tokens = tokens, .blocks = blocks,
				      .n_blocks = BLOCKS };
	struct plan_run other = one, shorter = one, decode = one;
	other.slot = 1;
	shorter.n = 1;
	decode.kind = ROW_DECODE;
	decode.n = 1;
	const struct plan_run both[2] = { other, one };
	const struct plan first = { &one, 1, 0, 2 }, second = { &one, 1, 1, 2 };
	const struct plan bad[] = {
		second,				/* nothing is open */
		{ &one, 1, 1, 0 },
		{ &one, 1, 2, 2 },
		{ &one, 1, 0, shape.n_layers + 1 },
		{ &decode, 1, 0, 2 },
		{ both, 2, 0, 2 },
	};
	const struct plan not_next[] = {
		{ &one, 1, 1, 3 }, { &other, 1, 1, 2 }, { &shorter, 1, 1, 2 },
	};
	const struct plan whole = { .runs = &other, .n_runs = 1 };
	const struct plan of_its_slot = { .runs = &decode, .n_runs = 1 };
	struct run_result res;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		EQ(device_submit(d, &bad[i]), -EINVAL);
	OK(device_submit(d, &first));
	for (size_t i = 0; i < sizeof(not_next) / sizeof(not_next[0]); i++)
		EQ(device_submit(d, &not_next[i]), -EINVAL);
	OK(device_submit(d, &second));		/* and they changed nothing */
	EQ(device_collect(d, &res, 1), 1);
	EQ(device_collect(d, &res, 1), 1);
	EQ(device_submit(d, &second), -EINVAL);	/* it is over */
	OK(device_submit(d, &first));
	OK(device_submit(d, &whole));		/* gives the open one up */
	EQ(device_collect(d, &res, 1), 1);
	EQ(device_collect(d, &res, 1), 1);
	EQ(device_submit(d, &second), -EINVAL);
	OK(device_submit(d, &first));
	OK(device_submit(d, &of_its_slot));	/* so does this */
	EQ(device_collect(d, &res, 1), 1);
	EQ(device_collect(d, &res, 1), 1);
	EQ(device_submit(d, &second), -EINVAL);
	OK(device_submit(d, &first));
	begin(d, 0, 1);				/* and this */
	EQ(device_submit(d, &second), -EINVAL);
	device_close(d);
}

/* ---- keys and values in FP8 ------------------------------------------------------- */

static int use_fp8(void **state)
{
	(void)state;
	kv = KV_FP8;
	return 0;
}

static int use_bf16(void **state)
{
	(void)state;
	kv = KV_BF16;
	return 0;
}

/* The block of the first 64 prompt tokens; the caller frees it. */
static char *first_block(enum kv_format format, size_t *ret_bytes, const char **ret_text)
{
	static char text[128];
	uint32_t tokens[STEP_GRID];
	kv_block blocks[BLOCKS];
	struct run_result res;

	kv = format;
	struct device *d = open_device(2, NUMERICS_BF16);
	char *ret = calloc(1, block_bytes(d));
	for (uint32_t i = 0; i < STEP_GRID; i++)
		tokens[i] = prompt_token(1, i);
	own_blocks(0, blocks);
	begin(d, 0, 1);
	struct plan_run r = { .kind = ROW_PREFILL,
			      .n = STEP_GRID,
			      .tokens = tokens,
			      .blocks = blocks,
			      .n_blocks = BLOCKS };
	step(d, &r, 0, &res);
	OK(block_save(d, blocks[0], ret));
	*ret_bytes = block_bytes(d);
	snprintf(text, sizeof(text), "%s", device_numeric_text(d));
	*ret_text = text;
	device_close(d);
	return ret;
}

/* A head's key or value of a position: the least power of two that fits, and nearest codes. */
static void head_is(const uint16_t *x, size_t x_apart, const uint8_t *codes, size_t apart,
		    uint8_t power, uint32_t dim)
{
	double max = 0, scale = ldexp(1, power - 127);

	for (uint32_t i = 0; i < dim; i++)
		max = fmax(max, fabs((double)dequant_bf16(x[i * x_apart])));
	assert_true(max <= 448 * scale && max > 224 * scale);
	for (uint32_t i = 0; i < dim; i++) {
		double want = (double)dequant_bf16(x[i * x_apart]) / scale,
		       got = (double)dequant_e4m3(codes[i * apart]);
		double other;

		for (int k = -1; k <= 1; k += 2) {	/* no neighbour is nearer */
			uint8_t code = (uint8_t)(codes[i * apart] + k);

			if ((code & 0x7f) == 0x7f)
				continue;
			other = (double)dequant_e4m3(code);
			assert_true(fabs(got - want) < fabs(other - want) ||
				    (fabs(got - want) <= fabs(other - want) &&
				     codes[i * apart] % 2 == 0));
		}
	}
}

/* The first attention layer's keys and values do not depend on how any are kept. */
TEST(an_fp8_block_holds_the_rounded_keys_and_values_of_a_bf16_block)
{
	size_t wide_bytes, bytes;
	const char *text;

	shape = random_shape(RANDOM_MOE);
	uint32_t dim = shape.head_dim;
	size_t n = (size_t)STEP_GRID * dim;
	char *wide = first_block(KV_BF16, &wide_bytes, &text);
	assert_null(strstr(text, "kv=fp8"));
	char *narrow = first_block(KV_FP8, &bytes, &text);
	assert_non_null(strstr(text, "kv=fp8"));
	assert_true(bytes == wide_bytes / 2 + wide_bytes / (2 * dim));
	for (uint32_t h = 0; h < shape.n_kv_heads; h++) {
		const uint16_t *k = (const uint16_t *)(const void *)(wide + h * 4 * n), *v = k + n;
		const uint8_t *kc = (const uint8_t *)narrow + h * 2 * (n + STEP_GRID),
			      *vc = kc + n + STEP_GRID;

		for (uint32_t j = 0; j < STEP_GRID; j++) {
			head_is(k + j, STEP_GRID, kc + j, STEP_GRID, kc[n + j], dim);
			head_is(v + j * dim, 1, vc + j * dim, 1, vc[n + j], dim);
		}
	}
	free(wide);
	free(narrow);
}

TEST(a_device_that_is_not_here_is_named)
{
	const struct device_limits limits = { .n_slots = 1, .n_blocks = 1, .max_rows = 64,
					      .max_context = 64 };
	const struct model_shape s = random_shape(RANDOM_DENSE);
	struct device *d;
	struct err e;

	EQ(device_open("tpu", &s, &limits, &d, &e), -ENODEV);
	assert_non_null(strstr(e.text, "tpu"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_bits_alone_among_others_in_all_cuts_and_on_any_threads_with_experts),
		cmocka_unit_test(the_same_bits_alone_among_others_in_all_cuts_and_on_any_threads_dense),
		cmocka_unit_test(the_same_bits_on_every_instruction_set_of_this_machine),
		cmocka_unit_test(replayed_tokens_leave_the_bits_of_decoded_ones),
		cmocka_unit_test(a_saved_state_and_its_blocks_continue_bit_for_bit),
		cmocka_unit_test(prefill_and_decode_agree_within_rounding),
		cmocka_unit_test(a_plan_that_breaks_a_rule_is_refused_and_changes_nothing),
		cmocka_unit_test(a_prompt_in_parts_that_breaks_a_rule_is_refused_and_one_can_be_given_up),
		cmocka_unit_test(a_device_that_is_not_here_is_named),
	};
	const struct CMUnitTest fp8[] = {
		cmocka_unit_test(
			the_same_bits_alone_among_others_in_all_cuts_and_on_any_threads_with_experts),
		cmocka_unit_test(
			the_same_bits_alone_among_others_in_all_cuts_and_on_any_threads_dense),
		cmocka_unit_test(the_same_bits_on_every_instruction_set_of_this_machine),
		cmocka_unit_test(replayed_tokens_leave_the_bits_of_decoded_ones),
		cmocka_unit_test(a_saved_state_and_its_blocks_continue_bit_for_bit),
		cmocka_unit_test(an_fp8_block_holds_the_rounded_keys_and_values_of_a_bf16_block),
	};

	return cmocka_run_group_tests_name("keys and values in bf16", tests, use_bf16, NULL) +
	       cmocka_run_group_tests_name("in fp8", fp8, use_fp8, NULL);
}
