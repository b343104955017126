/* exact_test.c - the same request gives the same bits (docs/numerics.md 1), on the CPU back
 * end and a small random model with every part.
 *
 * Each sequence is computed alone first, and the CRCs of hidden state, logits, KV entries and
 * recurrent state are kept for every step that ended at a position.  Then it is computed
 * among others: random arrival, a pool so small that all of them are preempted again and
 * again, replay one and several a step, continuation of an answer begun elsewhere.
 * Whatever step ends at a position must show the CRCs that it had alone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake/random_model.h"
#include "tests/unit/unit.h"
#include "worker/sched.h"

#ifndef EXACT_DEVICE
#define EXACT_DEVICE "cpu"
#endif

enum {
	N_SEQS = 8,
	MAX_POS = 400,
	N_SLOTS = 4,
	ROWS = N_SLOTS + STEP_GRID,
	CROWDED = 6,			/* blocks: two sequences fit, a third does not */
};

/* One step's marks, by the position at which it ended. */
struct mark {
	bool there;
	enum row_kind kind;	/* prefill or not: replay must equal decode */
	uint32_t n;
	struct step_digest d;
};

struct memory {
	struct mark marks[MAX_POS];
	uint32_t tokens[MAX_POS];
	uint32_t n_output;
	uint32_t n_preempted;
	uint32_t n_so_far;	/* output, while it runs */
	bool done;
};

struct world {
	struct device *device;
	struct sched *sched;
	struct memory alone[N_SEQS], crowd[N_SEQS];
	bool recording;
	uint64_t n_compared;
	uint64_t random;
};

static struct world w;
static struct random_model *model;
static struct model_shape shape;
static enum kv_format kv = KV_BF16;

static uint32_t rnd(uint32_t below)
{
	w.random = w.random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(w.random >> 33) % below;
}

static bool by_prefill(enum row_kind k)
{
	return k == ROW_PREFILL;
}

static void compare(const struct mark *a, const struct mark *b, uint64_t id, uint32_t end)
{
	if (a->d.hidden != b->d.hidden || a->d.logits != b->d.logits || a->d.state != b->d.state ||
	    (a->n == b->n && a->d.kv != b->d.kv))
		fail_msg("sequence %d, step to position %u: hidden %08x %08x, logits %08x %08x, "
			 "kv %08x %08x, state %08x %08x", (int)id, end, a->d.hidden, b->d.hidden,
			 a->d.logits, b->d.logits, a->d.kv, b->d.kv, a->d.state, b->d.state);
	w.n_compared++;
}

static void on_ran(void *ctx, const struct seq *q, const struct sched_run *run)
{
	uint32_t end = run->pos + run->n;
	struct mark m = { true, run->kind, run->n, run->result->digest };
	struct mark *a = &w.alone[q->id].marks[end];

	(void)ctx;
	assert_true(end < MAX_POS);
	w.crowd[q->id].n_so_far = seq_n_output(q);
	if (w.recording)
		*a = m;
	else if (a->there && by_prefill(a->kind) == by_prefill(m.kind))
		compare(a, &m, q->id, end);
	else if (!by_prefill(m.kind))	/* a prompt may be cut elsewhere, on the grid */
		fail_msg("sequence %d: no step alone ended at %u by these kernels", (int)q->id, end);
}

static void on_done(void *ctx, const struct seq *q, enum seq_end how)
{
	struct memory *m = w.recording ? &w.alone[q->id] : &w.crowd[q->id];

	(void)ctx;
	EQ(how, SEQ_END_LENGTH);
	m->n_output = seq_n_output(q);
	memcpy(m->tokens, q->tokens + q->n_prompt, m->n_output * sizeof(*m->tokens));
	m->n_preempted = q->n_preempted;
	m->done = true;
}

static void open_sched(uint32_t n_blocks, uint32_t replay_rows)
{
	const struct sched_sink sink = { NULL, on_ran, on_done, NULL, NULL };
	const struct sched_config c = { .n_slots = N_SLOTS, .n_blocks = n_blocks, .max_rows = ROWS,
					.max_context = MAX_POS, .max_queue = 100,
					.prefill_rows = STEP_GRID, .replay_rows = replay_rows };

	OK(sched_new(w.device, &c, &sink, &w.sched));
}

static const struct token_bias a_bias[] = { { 3, 2.5f }, { 9, -4.0f } };

/* Greedy, sampled, and every penalty there is. */
static struct sampling sampling_of(uint32_t id)
{
	struct sampling s = { .temperature = id % 4 == 0 ? 0 : 0.9f, .top_p = 1, .repetition = 1,
			      .seed = 1000 + id, .choice = id % 3, .logprob = true, .n_top = 3 };

	if (id % 4 == 2) {
		s.top_k = 20;
		s.top_p = 0.95f;
		s.min_p = 0.01f;
	} else if (id % 4 == 3) {
		s.repetition = 1.2f;
		s.presence = 0.5f;
		s.frequency = 0.3f;
		s.bias = a_bias;
		s.n_bias = 2;
	}
	return s;
}

static void add(uint32_t id, uint32_t n_known)
{
	static const uint32_t lengths[N_SEQS] = { 1, 63, 64, 65, 130, 20, 128, 100 };
	uint32_t prompt[200];
	struct seq_spec spec = { .id = id, .prompt = prompt, .n_prompt = lengths[id],
				 .known = w.alone[id].tokens, .n_known = n_known,
				 .max_output = 36 + 4 * id, .sampling = sampling_of(id) };
	struct seq *q;

	for (uint32_t i = 0; i < spec.n_prompt; i++)
		prompt[i] = (id * 37 + i * 11 + i * i * 3) % shape.n_token_ids;
	OK(seq_new(&spec, &q));
	OK(sched_add(w.sched, q));
}

static void run_dry(void)
{
	while (!sched_idle(w.sched)) {
		OK(sched_turn(w.sched));
		sched_check(w.sched);
	}
}

static void compare_tokens(void)
{
	for (uint32_t i = 0; i < N_SEQS; i++) {
		assert_true(w.crowd[i].done);
		EQ(w.crowd[i].n_output, w.alone[i].n_output);
		assert_memory_equal(w.crowd[i].tokens, w.alone[i].tokens,
				    w.alone[i].n_output * sizeof(uint32_t));
	}
}

static int each_alone(void **state)
{
	const struct device_limits l = { .n_slots = N_SLOTS,
					 .n_blocks = 32,
					 .max_rows = ROWS,
					 .max_context = MAX_POS,
					 .n_threads = 2,
					 .digests = true,
					 .kv = kv };

	(void)state;
	memset(&w, 0, sizeof(w));
	shape = random_shape(RANDOM_WHOLE);
	if (random_model_new(&shape, WF_BF16, 7, &model) < 0 ||
	    device_open(EXACT_DEVICE, &shape, &l, &w.device, NULL) < 0 ||
	    device_load(w.device, random_model_source(model), NULL, NULL, NULL) < 0)
		return -1;
	w.random = 3;
	w.recording = true;
	for (uint32_t i = 0; i < N_SEQS; i++) {
		open_sched(32, 1);
		add(i, 0);
		run_dry();
		w.sched = sched_free(w.sched);
	}
	w.recording = false;
	return 0;
}

static int each_alone_fp8(void **state)
{
	kv = KV_FP8;
	return each_alone(state);
}

static int close_all(void **state)
{
	(void)state;
	w.device = device_close(w.device);
	model = random_model_free(model);
	return 0;
}

TEST(alone_twice_is_the_same)
{
	for (uint32_t i = 0; i < N_SEQS; i++) {
		open_sched(32, 1);
		add(i, 0);
		run_dry();
		w.sched = sched_free(w.sched);
	}
	compare_tokens();
}

TEST(answers_are_not_all_alike)
{
	uint32_t n_same = 0;

	for (uint32_t i = 0; i < N_SEQS; i++)
		for (uint32_t k = 1; k < 30; k++)
			n_same += w.alone[i].tokens[k] == w.alone[i].tokens[0];
	assert_true(n_same < N_SEQS * 29 / 2);	/* else the comparison proves little */
}

/* Arrival at random times, each preempted by force on top of what the pool does. */
static void crowd(uint32_t n_blocks, uint32_t replay_rows)
{
	uint32_t next = 0, n_forced[N_SEQS] = { 0 };

	memset(w.crowd, 0, sizeof(w.crowd));
	w.n_compared = 0;
	open_sched(n_blocks, replay_rows);
	while (next < N_SEQS || !sched_idle(w.sched)) {
		if (next < N_SEQS && rnd(4) == 0)
			add(next++, 0);
		/* the pool never takes from the oldest, so each is also forced three times, and
		 * now and then in the midst of a prefill or a replay */
		for (uint32_t i = 0; i < next; i++)
			if (n_forced[i] < 3 && w.crowd[i].n_so_far > 10 * n_forced[i] + i &&
			    sched_preempt(w.sched, i) == 0)
				n_forced[i]++;
		if (rnd(12) == 0)
			(void)sched_preempt(w.sched, rnd(N_SEQS));
		OK(sched_turn(w.sched));
		sched_check(w.sched);
	}
	w.sched = sched_free(w.sched);
	compare_tokens();
	for (uint32_t i = 0; i < N_SEQS; i++)
		assert_true(w.crowd[i].n_preempted >= 2);
	assert_true(w.n_compared > 400);
}

TEST(among_others_and_preempted_each_step_has_the_same_crcs)
{
	crowd(CROWDED, 1);
}

TEST(replayed_several_a_step_it_still_has_them)
{
	crowd(CROWDED, 5);
}

TEST(with_room_for_all_it_has_them_too)
{
	uint32_t next = 0;

	memset(w.crowd, 0, sizeof(w.crowd));
	open_sched(32, 4);
	while (next < N_SEQS || !sched_idle(w.sched)) {
		if (next < N_SEQS && rnd(3) == 0)
			add(next++, 0);
		OK(sched_turn(w.sched));
	}
	w.sched = sched_free(w.sched);
	compare_tokens();
}

TEST(continued_from_known_tokens_it_goes_on_bit_for_bit)
{
	static const uint32_t known[] = { 1, 17, 35 };

	for (size_t k = 0; k < sizeof(known) / sizeof(*known); k++) {
		memset(w.crowd, 0, sizeof(w.crowd));
		open_sched(32, 1 + (uint32_t)k * 3);
		for (uint32_t i = 0; i < N_SEQS; i++)
			add(i, known[k]);
		run_dry();
		w.sched = sched_free(w.sched);
		compare_tokens();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(alone_twice_is_the_same),
		cmocka_unit_test(answers_are_not_all_alike),
		cmocka_unit_test(among_others_and_preempted_each_step_has_the_same_crcs),
		cmocka_unit_test(replayed_several_a_step_it_still_has_them),
		cmocka_unit_test(with_room_for_all_it_has_them_too),
		cmocka_unit_test(continued_from_known_tokens_it_goes_on_bit_for_bit),
	};

	return cmocka_run_group_tests_name("keys and values in bf16", tests, each_alone,
					   close_all) +
	       cmocka_run_group_tests_name("in fp8", tests, each_alone_fp8, close_all);
}
