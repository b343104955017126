/* sched_test.c - claims about worker/sched.h, on the fake device, which holds every plan
 * against the rules of step.h and turns any mix-up into a wrong answer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake/device.h"
#include "tests/unit/unit.h"
#include "worker/sched.h"

enum { MAX_SEQS = 4096, MAX_OUTPUT = 400, STOP_ID = 17 };

struct outcome {
	uint32_t n_done;
	enum seq_end how;
	uint32_t n;		/* tokens of output */
	uint32_t n_prompt, n_known, n_preempted;
	uint32_t seen;		/* samples reported one by one */
	uint64_t turn_done;
};

struct world {
	struct device *device;
	struct sched *sched;
	struct sched_config config;
	struct outcome out[MAX_SEQS];
	uint64_t turn;
	uint32_t order[MAX_SEQS], n_order;	/* ids in the order of their first run */
	uint64_t random;
};

static uint32_t rnd(struct world *w, uint32_t below)
{
	w->random = w->random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(w->random >> 33) % below;
}

static uint32_t *prompt_of(uint64_t id, uint32_t n)
{
	uint32_t *p = calloc(n, sizeof(*p));

	for (uint32_t i = 0; i < n; i++)
		p[i] = (uint32_t)((id * 31 + i * 7 + id * i) % FAKE_VOCAB);
	return p;
}

static struct sampling sampling_of(uint64_t id)
{
	return (struct sampling){ .temperature = id % 2 ? 1.0f : 0.0f, .seed = id, .top_p = 1,
				  .repetition = 1, .choice = (uint32_t)(id % 3) };
}

static void on_ran(void *ctx, const struct seq *q, const struct sched_run *run)
{
	struct world *w = ctx;
	struct outcome *o = &w->out[q->id];

	EQ(o->n_done, 0);
	if (run->pos == 0 && q->n_preempted == 0)
		w->order[w->n_order++] = (uint32_t)q->id;
	if (run->result->sampled) {
		EQ(q->tokens[q->n_tokens - 1], run->result->token);
		o->seen++;
	}
}

static void on_done(void *ctx, const struct seq *q, enum seq_end how)
{
	struct world *w = ctx;
	struct outcome *o = &w->out[q->id];
	uint32_t want[MAX_OUTPUT];

	o->n_done++;
	o->how = how;
	o->n = seq_n_output(q);
	o->n_preempted = q->n_preempted;
	o->turn_done = w->turn;
	EQ(o->seen + q->n_known, o->n);		/* nothing twice, nothing missing */
	fake_answer(q->tokens, q->n_prompt, &q->sampling, FAKE_VOCAB, o->n, want);
	if (o->n)
		assert_memory_equal(want, q->tokens + q->n_prompt, o->n * sizeof(*want));
	if (how == SEQ_END_LENGTH)
		EQ(o->n, q->max_output);
	for (uint32_t i = q->n_known; i + 1 < o->n; i++)
		assert_true(!q->n_stop || want[i] != q->stop[0]);
}

static void world_open(struct world *w, uint32_t n_slots, uint32_t n_blocks, uint32_t max_rows)
{
	struct device_limits l = { .n_slots = n_slots, .n_blocks = n_blocks, .max_rows = max_rows,
				   .max_context = 2048 };
	const struct sched_sink sink = { w, on_ran, on_done, NULL, NULL };

	memset(w, 0, sizeof(*w));
	w->random = 1;
	w->config = (struct sched_config){ .n_slots = n_slots, .n_blocks = n_blocks,
					   .max_rows = max_rows, .max_context = 2048,
					   .max_queue = 64, .prefill_rows = 64, .replay_rows = 8 };
	OK(device_open("fake", NULL, &l, &w->device, NULL));
	OK(sched_new(w->device, &w->config, &sink, &w->sched));
}

static void world_close(struct world *w)
{
	sched_free(w->sched);
	device_close(w->device);
}

static int add(struct world *w, uint64_t id, uint32_t n_prompt, uint32_t n_known, uint32_t max,
	       bool stops)
{
	const uint32_t stop = STOP_ID;
	uint32_t *prompt = prompt_of(id, n_prompt);
	uint32_t known[MAX_OUTPUT];
	struct seq_spec spec = { .id = id, .prompt = prompt, .n_prompt = n_prompt, .known = known,
				 .n_known = n_known, .max_output = max,
				 .sampling = sampling_of(id), .stop = &stop, .n_stop = stops };
	struct seq *q;
	int r;

	fake_answer(prompt, n_prompt, &spec.sampling, FAKE_VOCAB, n_known, known);
	OK(seq_new(&spec, &q));
	free(prompt);
	r = sched_add(w->sched, q);
	if (r < 0)
		seq_free(q);
	return r;
}

static void turn(struct world *w)
{
	w->turn++;
	OK(sched_turn(w->sched));
	sched_check(w->sched);
}

static void run_dry(struct world *w)
{
	for (uint32_t i = 0; !sched_idle(w->sched); i++) {
		assert_true(i < 1000000);
		turn(w);
	}
}

static struct world w;

TEST(one_sequence_gets_its_answer)
{
	world_open(&w, 4, 64, 128);
	OK(add(&w, 1, 200, 0, 50, false));
	run_dry(&w);
	EQ(w.out[1].how, SEQ_END_LENGTH);
	world_close(&w);
}

TEST(decode_takes_one_turn_a_token)
{
	world_open(&w, 4, 64, 128);
	OK(add(&w, 1, 10, 0, 100, false));
	run_dry(&w);
	assert_in_range(w.turn, 100, 103);	/* one step ahead, never a turn lost */
	world_close(&w);
}

TEST(many_share_steps_and_none_changes)
{
	world_open(&w, 8, 200, 128);
	for (uint32_t i = 0; i < 40; i++)
		OK(add(&w, i, 1 + i * 13, i % 4 ? 0 : 5, 60, true));
	run_dry(&w);
	for (uint32_t i = 0; i < 40; i++)
		EQ(w.out[i].n_done, 1);
	world_close(&w);
}

TEST(a_small_pool_preempts_and_changes_nothing)
{
	uint32_t n_twice = 0;

	world_open(&w, 8, 12, 128);
	for (uint32_t i = 0; i < 24; i++)
		OK(add(&w, i, 30 + i, 0, 390, false));
	run_dry(&w);
	for (uint32_t i = 0; i < 24; i++) {
		EQ(w.out[i].how, SEQ_END_LENGTH);
		n_twice += w.out[i].n_preempted >= 2;
	}
	assert_true(n_twice >= 5);
	world_close(&w);
}

TEST(each_sequence_preempted_twice_by_hand_changes_nothing)
{
	world_open(&w, 4, 64, 128);
	for (uint32_t i = 0; i < 4; i++)
		OK(add(&w, i, 100 + 30 * i, 0, 120, false));
	while (!sched_idle(w.sched)) {
		if (w.turn % 40 == 20)
			sched_preempt(w.sched, w.turn / 40 % 4);
		if (w.turn % 7 == 3)	/* also in the midst of a prefill or a replay */
			sched_preempt(w.sched, w.turn / 7 % 4);
		turn(&w);
		assert_true(w.turn < 20000);
	}
	for (uint32_t i = 0; i < 4; i++) {
		EQ(w.out[i].how, SEQ_END_LENGTH);
		assert_true(w.out[i].n_preempted >= 2);
	}
	world_close(&w);
}

TEST(the_queue_is_bounded_and_refuses)
{
	world_open(&w, 1, 64, 128);
	for (uint32_t i = 0; i < 64; i++)
		OK(add(&w, i, 10, 0, 5, false));
	EQ(add(&w, 64, 10, 0, 5, false), -ENOBUFS);
	turn(&w);	/* the first one starts: there is room for one more */
	OK(add(&w, 64, 10, 0, 5, false));
	EQ(add(&w, 65, 10, 0, 5, false), -ENOBUFS);
	run_dry(&w);
	EQ(w.out[64].n_done, 1);
	world_close(&w);
}

TEST(what_does_not_fit_alone_is_refused_at_once)
{
	world_open(&w, 4, 4, 128);
	EQ(sched_max_tokens(&w.config), 256);
	EQ(add(&w, 1, 200, 0, 57, false), -E2BIG);
	OK(add(&w, 1, 200, 0, 56, false));
	run_dry(&w);
	EQ(w.out[1].how, SEQ_END_LENGTH);
	world_close(&w);
}

TEST(nobody_passes_the_head_of_the_queue)
{
	world_open(&w, 3, 20, 128);
	OK(add(&w, 0, 600, 0, 100, false));
	OK(add(&w, 1, 900, 0, 100, false));	/* must wait for 0 */
	for (uint32_t i = 2; i < 12; i++)
		OK(add(&w, i, 5, 0, 5, false));	/* would fit at once */
	run_dry(&w);
	for (uint32_t i = 0; i < 12; i++)
		EQ(w.order[i], i);
	world_close(&w);
}

TEST(a_cancelled_sequence_is_gone_within_the_turn)
{
	struct sched_stats st;

	world_open(&w, 4, 64, 128);
	OK(add(&w, 1, 10, 0, 300, false));
	OK(add(&w, 2, 10, 0, 300, false));
	for (int i = 0; i < 20; i++)
		turn(&w);
	OK(sched_cancel(w.sched, 1));
	EQ(w.out[1].how, SEQ_END_CANCELLED);
	sched_stats(w.sched, &st);
	EQ(st.n_running, 1);
	sched_check(w.sched);
	EQ(sched_cancel(w.sched, 1), -ENOENT);
	run_dry(&w);
	EQ(w.out[2].how, SEQ_END_LENGTH);
	EQ(w.out[1].n_done, 1);
	world_close(&w);
}

TEST(a_paused_sequence_gives_way_to_the_queue)
{
	world_open(&w, 1, 8, 128);
	OK(add(&w, 1, 10, 0, 200, false));
	for (int i = 0; i < 20; i++)
		turn(&w);
	OK(sched_pause(w.sched, 1, true));
	run_dry(&w);		/* nothing to do, nothing hangs */
	EQ(w.out[1].n_done, 0);
	OK(add(&w, 2, 10, 0, 200, false));
	run_dry(&w);
	EQ(w.out[2].how, SEQ_END_LENGTH);
	OK(sched_pause(w.sched, 1, false));
	run_dry(&w);
	EQ(w.out[1].how, SEQ_END_LENGTH);
	EQ(w.out[1].n_preempted, 1);
	world_close(&w);
}

TEST(a_long_prompt_does_not_stop_the_tokens_of_others)
{
	uint32_t before;

	world_open(&w, 4, 64, 512);
	OK(add(&w, 1, 10, 0, 300, false));
	for (int i = 0; i < 10; i++)
		turn(&w);
	OK(add(&w, 2, 1500, 0, 10, false));
	before = w.out[1].seen;
	for (int i = 0; i < 20; i++)
		turn(&w);
	EQ(w.out[1].seen, before + 20);
	run_dry(&w);
	world_close(&w);
}

/* As world_open(), and prompts are taken in parts that are worth 64 rows. */
static void parts_open(uint32_t n_slots, uint32_t n_blocks, uint32_t max_rows)
{
	const struct sched_sink sink = { &w, on_ran, on_done, NULL, NULL };

	world_open(&w, n_slots, n_blocks, max_rows);
	sched_free(w.sched);
	w.config.most_parts = FAKE_LAYERS;
	OK(sched_new(w.device, &w.config, &sink, &w.sched));
}

static uint64_t parts_done(void)
{
	struct sched_stats s;

	sched_stats(w.sched, &s);
	return s.n_parts;
}

TEST(a_long_prompt_beside_answers_is_taken_in_parts)
{
	uint32_t before;

	parts_open(4, 64, 1600);
	OK(add(&w, 1, 10, 0, 300, false));
	for (int i = 0; i < 10; i++)
		turn(&w);
	EQ(parts_done(), 0);
	OK(add(&w, 2, 1500, 0, 10, false));
	OK(add(&w, 3, 200, 0, 10, false));	/* waits for the open one, and comes to its turn */
	before = w.out[1].seen;
	while (w.out[2].seen == 0)
		turn(&w);
	assert_true(parts_done() >= FAKE_LAYERS);
	assert_true(w.out[1].seen >= before + FAKE_LAYERS);
	run_dry(&w);
	EQ(w.out[1].n_done + w.out[2].n_done + w.out[3].n_done, 3);
	world_close(&w);
}

TEST(an_open_prompt_may_go_and_come_back)
{
	for (int how = 0; how < 4; how++)
		for (uint32_t turns = 1; turns < 12; turns++) {
			parts_open(3, 64, 1600);
			OK(add(&w, 1, 10, 0, 100, false));
			for (int i = 0; i < 5; i++)
				turn(&w);
			OK(add(&w, 2, 1500, 0, 10, false));
			for (uint32_t i = 0; i < turns; i++)
				turn(&w);
			if (how == 0)
				OK(sched_cancel(w.sched, 2));
			else if (how == 1)
				OK(sched_preempt(w.sched, 2));
			else
				OK(sched_pause(w.sched, 2, true));
			OK(add(&w, 3, 700, 0, 10, false));	/* takes its slot, perhaps its blocks */
			for (uint32_t i = 0; i < 4; i++)
				turn(&w);
			if (how == 3)
				OK(sched_cancel(w.sched, 1));
			if (how > 1)
				OK(sched_pause(w.sched, 2, false));
			run_dry(&w);
			EQ(w.out[2].how, how == 0 ? SEQ_END_CANCELLED : SEQ_END_LENGTH);
			EQ(w.out[3].how, SEQ_END_LENGTH);
			world_close(&w);
		}
}

TEST(parameters_that_the_device_refuses_fail_one_sequence)
{
	const uint32_t prompt[] = { 1, 2, 3 };
	struct seq_spec spec = { .id = 5, .prompt = prompt, .n_prompt = 3, .max_output = 4,
				 .sampling = { .temperature = FAKE_BAD_TEMPERATURE } };
	struct seq *q;

	world_open(&w, 2, 8, 128);
	OK(seq_new(&spec, &q));
	OK(sched_add(w.sched, q));
	OK(add(&w, 6, 10, 0, 5, false));
	run_dry(&w);
	EQ(w.out[5].how, SEQ_END_FAILED);
	EQ(w.out[6].how, SEQ_END_LENGTH);
	world_close(&w);
}

TEST(a_lost_device_is_reported_and_everything_can_be_freed)
{
	int r = 0;

	world_open(&w, 4, 64, 128);
	for (uint32_t i = 0; i < 8; i++)
		OK(add(&w, i, 50, 0, 100, false));
	fake_lose_device(w.device, 30);
	for (int i = 0; i < 100 && r == 0; i++)
		r = sched_turn(w.sched);
	EQ(r, -ENODEV);
	world_close(&w);
}

TEST(drafts_are_counted_against_what_was_sampled)
{
	struct sched_stats st;
	uint32_t *prompt = prompt_of(2, 20), want[200], n_hits = 0;
	struct sampling s = sampling_of(2);
	const struct sched_sink sink = { &w, on_ran, on_done, NULL, NULL };

	world_open(&w, 2, 64, 128);
	sched_free(w.sched);
	w.config.drafts = true;
	OK(sched_new(w.device, &w.config, &sink, &w.sched));
	OK(add(&w, 2, 20, 0, 200, false));
	run_dry(&w);
	fake_answer(prompt, 20, &s, FAKE_VOCAB, 200, want);
	for (int i = 0; i + 1 < 200; i++)	/* the fake's guess: see its compute() */
		n_hits += want[i + 1] == (want[i] % 3 ? want[i] : 0);
	sched_stats(w.sched, &st);
	EQ(st.n_drafts, 199);
	EQ(st.n_draft_hits, n_hits);
	free(prompt);
	world_close(&w);
}

TEST(a_configuration_without_room_for_a_chunk_is_refused)
{
	struct sched_config c = { .n_slots = 8, .n_blocks = 8, .max_rows = 71, .max_context = 100,
				  .max_queue = 1, .prefill_rows = 64, .replay_rows = 1 };
	const struct sched_sink sink = { NULL, on_ran, on_done, NULL, NULL };
	struct sched *s;

	EQ(sched_new(NULL, &c, &sink, &s), -EINVAL);
	c.max_rows = 72;
	c.prefill_rows = 65;
	EQ(sched_new(NULL, &c, &sink, &s), -EINVAL);
}

/* Arrivals, cancels, pauses and preemptions as they come, on a pool that is always short. */
static void storm(uint64_t seed, uint32_t n_slots, uint32_t n_blocks, uint32_t n_turns, bool parts)
{
	uint32_t next = 0, longest = n_blocks * 64 < 800 ? n_blocks * 64 : 800;

	if (parts)
		parts_open(n_slots, n_blocks, n_slots + 64 * (1 + (uint32_t)(seed % 8)));
	else
		world_open(&w, n_slots, n_blocks, n_slots + 64 + 13 * (uint32_t)(seed % 8));
	w.random = seed;
	while (w.turn < n_turns) {
		if (next < MAX_SEQS && rnd(&w, 6) == 0) {
			uint32_t max = 1 + rnd(&w, MAX_OUTPUT / 2);
			uint32_t n = 1 + rnd(&w, longest - max < 400 ? longest - max : 400);
			uint32_t known = rnd(&w, 4) ? 0 : rnd(&w, max);

			if (add(&w, next, n, known, max, true) == 0)
				next++;
		}
		if (next && rnd(&w, 20) == 0)
			sched_cancel(w.sched, next - 1 - rnd(&w, next < 20 ? next : 20));
		if (next && rnd(&w, 10) == 0)
			sched_pause(w.sched, next - 1 - rnd(&w, next < 20 ? next : 20), true);
		if (next && rnd(&w, 3) == 0)
			sched_pause(w.sched, next - 1 - rnd(&w, next < 40 ? next : 40), false);
		if (next && rnd(&w, 30) == 0)
			sched_preempt(w.sched, next - 1 - rnd(&w, next < 20 ? next : 20));
		turn(&w);
	}
	for (uint32_t i = 0; i < next; i++)
		sched_pause(w.sched, i, false);
	run_dry(&w);
	for (uint32_t i = 0; i < next; i++)
		EQ(w.out[i].n_done, 1);		/* nobody is stuck, nobody ends twice */
	assert_true(next > n_turns / 40);
	assert_true(!parts || parts_done() > n_turns / 20);
	world_close(&w);
}

TEST(storms_leave_every_answer_as_it_would_be_alone)
{
	storm(1, 8, 40, 10000, false);
	storm(2, 3, 8, 8000, false);
	storm(3, 16, 30, 8000, false);
	storm(4, 1, 8, 6000, false);
	storm(5, 32, 64, 8000, false);
}

TEST(storms_with_prompts_in_parts_leave_every_answer_as_it_would_be_alone)
{
	storm(14, 8, 40, 10000, true);
	storm(15, 3, 12, 8000, true);
	storm(17, 16, 30, 8000, true);
	storm(20, 32, 64, 8000, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_sequence_gets_its_answer),
		cmocka_unit_test(decode_takes_one_turn_a_token),
		cmocka_unit_test(many_share_steps_and_none_changes),
		cmocka_unit_test(a_small_pool_preempts_and_changes_nothing),
		cmocka_unit_test(each_sequence_preempted_twice_by_hand_changes_nothing),
		cmocka_unit_test(the_queue_is_bounded_and_refuses),
		cmocka_unit_test(what_does_not_fit_alone_is_refused_at_once),
		cmocka_unit_test(nobody_passes_the_head_of_the_queue),
		cmocka_unit_test(a_cancelled_sequence_is_gone_within_the_turn),
		cmocka_unit_test(a_paused_sequence_gives_way_to_the_queue),
		cmocka_unit_test(a_long_prompt_does_not_stop_the_tokens_of_others),
		cmocka_unit_test(a_long_prompt_beside_answers_is_taken_in_parts),
		cmocka_unit_test(an_open_prompt_may_go_and_come_back),
		cmocka_unit_test(parameters_that_the_device_refuses_fail_one_sequence),
		cmocka_unit_test(a_lost_device_is_reported_and_everything_can_be_freed),
		cmocka_unit_test(drafts_are_counted_against_what_was_sampled),
		cmocka_unit_test(a_configuration_without_room_for_a_chunk_is_refused),
		cmocka_unit_test(storms_leave_every_answer_as_it_would_be_alone),
		cmocka_unit_test(storms_with_prompts_in_parts_leave_every_answer_as_it_would_be_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
