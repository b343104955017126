/* engine_test.c - claims about worker/engine.h, on the fake device. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/fake/device.h"
#include "tests/unit/unit.h"
#include "worker/engine.h"

enum { N_SEQS = 100, MAX_OUTPUT = 60 };

struct opener {
	uint64_t lose_at;
	unsigned slow_us;
	int fail;
	uint32_t max_queue;
};

static int open_fake(void *ctx, struct device **ret, struct sched_config *ret_c, struct err *e)
{
	const struct device_limits l = { .n_slots = 4, .n_blocks = 32, .max_rows = 128,
					 .max_context = 1024 };
	struct opener *o = ctx;
	int r;

	if (o->fail)
		return err_set(e, o->fail, "no such device here");
	r = device_open("fake", NULL, &l, ret, e);
	if (r == 0 && o->lose_at)
		fake_lose_device(*ret, o->lose_at);
	if (r == 0)
		fake_slow(*ret, o->slow_us);
	*ret_c = (struct sched_config){ .n_slots = 4, .n_blocks = 32, .max_rows = 128,
					.max_context = 1024, .max_queue = o->max_queue,
					.prefill_rows = 64, .replay_rows = 8 };
	return r;
}

static struct seq *make(uint64_t id, uint32_t max_output)
{
	const uint32_t prompt[] = { 1, 2, 3, (uint32_t)id };
	struct seq_spec spec = { .id = id, .prompt = prompt, .n_prompt = 4,
				 .max_output = max_output, .sampling = { .seed = id } };
	struct seq *s;

	OK(seq_new(&spec, &s));
	return s;
}

/* Waits for events and takes them. */
static size_t wait_events(struct engine *e, const struct engine_event **ret)
{
	struct pollfd fd = { .fd = engine_fd(e), .events = POLLIN };

	assert_true(poll(&fd, 1, 10000) == 1);
	return engine_take(e, ret);
}

TEST(start_fails_with_the_opener_s_reason)
{
	struct opener o = { .fail = -ENODEV };
	struct engine *e;
	struct err err = { 0 };

	EQ(engine_start(open_fake, &o, &e, &err), -ENODEV);
	assert_string_equal(err.text, "no such device here");
}

TEST(every_sequence_is_told_token_by_token_and_ends_once)
{
	struct opener o = { .max_queue = N_SEQS };
	uint32_t n[N_SEQS] = { 0 }, want[MAX_OUTPUT], n_done = 0;
	struct engine *e;

	OK(engine_start(open_fake, &o, &e, NULL));
	for (uint32_t i = 0; i < N_SEQS; i++) {
		struct seq *s = make(i, MAX_OUTPUT);

		OK(engine_add(e, &s, 1));
	}
	while (n_done < N_SEQS) {
		const struct engine_event *ev;
		size_t n_ev = wait_events(e, &ev);

		for (size_t i = 0; i < n_ev; i++) {
			const uint32_t prompt[] = { 1, 2, 3, (uint32_t)ev[i].id };
			const struct sampling s = { .seed = ev[i].id };

			if (ev[i].kind == ENGINE_TOKEN) {
				fake_answer(prompt, 4, &s, FAKE_VOCAB, MAX_OUTPUT, want);
				EQ(ev[i].token, want[n[ev[i].id]++]);
			} else if (ev[i].kind == ENGINE_DONE) {
				EQ(ev[i].end, SEQ_END_LENGTH);
				EQ(n[ev[i].id], MAX_OUTPUT);
				n_done++;
			}
		}
	}
	engine_stop(e);
}

TEST(a_request_is_taken_whole_or_not_at_all)
{
	struct opener o = { .max_queue = 3 };
	struct seq *s[4];
	struct engine *e;
	uint32_t n_done = 0;

	OK(engine_start(open_fake, &o, &e, NULL));
	for (uint32_t i = 0; i < 4; i++)
		s[i] = make(i, 5);
	EQ(engine_add(e, s, 4), -ENOBUFS);
	OK(engine_add(e, s, 3));
	while (n_done < 3) {
		const struct engine_event *ev;
		size_t n = wait_events(e, &ev);

		for (size_t i = 0; i < n; i++)
			n_done += ev[i].kind == ENGINE_DONE;
	}
	OK(engine_add(e, s + 3, 1));
	engine_stop(e);		/* with work under way: nothing leaks, nothing hangs */
}

TEST(longer_than_the_pool_is_refused)
{
	struct opener o = { .max_queue = 3 };
	struct seq *s = make(1, 1021);
	struct engine *e;

	OK(engine_start(open_fake, &o, &e, NULL));
	EQ(engine_add(e, &s, 1), -E2BIG);
	seq_free(s);
	engine_stop(e);
}

TEST(cancel_and_pause_reach_the_sequence)
{
	struct opener o = { .max_queue = 3, .slow_us = 500 };
	struct engine *e;
	struct seq *s[2] = { make(1, 1000), make(2, 1000) };
	uint32_t n_done = 0;

	OK(engine_start(open_fake, &o, &e, NULL));
	OK(engine_add(e, s, 2));
	OK(engine_pause(e, 2, true));
	OK(engine_cancel(e, 1));
	OK(engine_cancel(e, 77));	/* nobody's */
	while (n_done < 2) {
		const struct engine_event *ev;
		size_t n = wait_events(e, &ev);

		for (size_t i = 0; i < n; i++) {
			if (ev[i].kind != ENGINE_DONE)
				continue;
			n_done++;
			EQ(ev[i].end, ev[i].id == 1 ? SEQ_END_CANCELLED : SEQ_END_LENGTH);
			if (ev[i].id == 1)
				OK(engine_pause(e, 2, false));
		}
	}
	engine_stop(e);
}

TEST(a_lost_device_is_told_and_nothing_more_is_taken)
{
	struct opener o = { .max_queue = 3, .lose_at = 10 };
	const struct engine_event *ev;
	struct seq *s = make(1, 500);
	struct engine *e;
	bool lost = false;

	OK(engine_start(open_fake, &o, &e, NULL));
	OK(engine_add(e, &s, 1));
	while (!lost) {
		size_t n = wait_events(e, &ev);

		for (size_t i = 0; i < n; i++)
			lost |= ev[i].kind == ENGINE_LOST && ev[i].code == -ENODEV;
	}
	s = make(2, 5);
	EQ(engine_add(e, &s, 1), -ENODEV);
	seq_free(s);
	engine_stop(e);
}

TEST(the_pulse_tells_idle_from_busy_from_stuck)
{
	struct opener o = { .max_queue = 4, .slow_us = 400000 };
	const struct engine_event *ev;
	uint64_t before, turns;
	struct engine *e;
	struct seq *s;
	bool asleep;

	OK(engine_start(open_fake, &o, &e, NULL));
	for (int i = 0; i < 100 && !engine_pulse(e, &before); i++)
		usleep(10000);
	assert_true(engine_pulse(e, &before));
	s = make(1, 4);
	OK(engine_add(e, &s, 1));
	usleep(150000);		/* in its first step, which takes longer */
	asleep = engine_pulse(e, &turns);
	assert_false(asleep);
	usleep(100000);
	assert_false(engine_pulse(e, &before));
	assert_true(turns == before);	/* one slow step: no turn meanwhile */
	for (bool done = false; !done;) {
		size_t n = wait_events(e, &ev);

		for (size_t i = 0; i < n; i++)
			done |= ev[i].kind == ENGINE_DONE;
	}
	for (int i = 0; i < 200 && !engine_pulse(e, &turns); i++)
		usleep(10000);
	assert_true(engine_pulse(e, &turns));
	assert_true(turns > before);
	engine_stop(e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_pulse_tells_idle_from_busy_from_stuck),
		cmocka_unit_test(start_fails_with_the_opener_s_reason),
		cmocka_unit_test(every_sequence_is_told_token_by_token_and_ends_once),
		cmocka_unit_test(a_request_is_taken_whole_or_not_at_all),
		cmocka_unit_test(longer_than_the_pool_is_refused),
		cmocka_unit_test(cancel_and_pause_reach_the_sequence),
		cmocka_unit_test(a_lost_device_is_told_and_nothing_more_is_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
