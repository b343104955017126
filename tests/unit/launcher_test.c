/* launcher_test.c - claims about the life of workers; time is a number here. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>

#include "daemon/launcher.h"
#include "lib/clock.h"

static const struct launch_policy policy = {
	.keep_ms = 10000, .retire_ms = 30000, .stall_ms = 60000, .backoff_ms = 1000,
	.backoff_max_ms = 8000, .crash_limit = 4, .healthy_ms = 60000, .room_ms = 5000,
};

/* What a box would do: says yes to every question, and writes down what it was told. */
struct rig {
	struct launcher *l;
	uint64_t now;
	char did[512];
	bool no_room;
	uint64_t short_by;
};

static const char *word(enum launch_what w)
{
	return w == LAUNCH_ASK	 ? "ask" :
	       w == LAUNCH_START ? "start" :
	       w == LAUNCH_STOP	 ? "stop" :
				   "kill";
}

static const char *run(struct rig *r)
{
	struct launch_action a;

	*r->did = '\0';
	while (launcher_next(r->l, &a)) {
		size_t n = strlen(r->did);

		snprintf(r->did + n, sizeof(r->did) - n, "%s%s %s", n ? ", " : "", word(a.what),
			 a.model->alias);
		if (a.what == LAUNCH_ASK)
			launcher_room(r->l, a.model->alias, !r->no_room, r->short_by, "no memory",
				      r->now);
	}
	return r->did;
}

#define DID(r, text) assert_string_equal(run(r), text)

static struct rig rig_of(const struct launch_policy *p)
{
	struct rig r = { .now = 100 * NS_PER_S };

	OK(launcher_new(p, &r.l));
	launcher_router(r.l, true, r.now);
	return r;
}

static void add(struct rig *r, const char *alias, uint32_t ttl_s, bool pin)
{
	const struct launch_conf c = { .alias = alias, .pin = pin, .on_demand = true,
				       .ttl_s = ttl_s, .memory = 1000 };

	OK(launcher_set(r->l, &c, r->now));
}

static void pass(struct rig *r, double seconds)
{
	r->now += (uint64_t)(seconds * (double)NS_PER_S);
	launcher_tick(r->l, r->now);
}

static const struct launch_model *model(struct rig *r, const char *alias)
{
	return launcher_find(r->l, alias);
}

static void ready(struct rig *r, const char *alias)
{
	launcher_ready(r->l, alias, model(r, alias)->instance, r->now);
}

static void ended(struct rig *r, const char *alias, enum launch_end how)
{
	launcher_exited(r->l, alias, model(r, alias)->instance, how, "killed by signal 9", r->now);
}

static void up(struct rig *r, const char *alias)
{
	launcher_demand(r->l, alias, r->now);
	run(r);
	ready(r, alias);
	EQ(model(r, alias)->state, LAUNCH_READY);
}

TEST(the_first_request_loads_a_model)
{
	struct rig r = rig_of(&policy);

	add(&r, "a", 0, false);
	pass(&r, 1);
	DID(&r, "");
	launcher_demand(r.l, "a", r.now);
	EQ(model(&r, "a")->state, LAUNCH_WAITING);
	DID(&r, "ask a, start a");
	EQ(model(&r, "a")->state, LAUNCH_STARTING);
	launcher_demand(r.l, "a", r.now);
	DID(&r, "");				/* once is enough */
	launcher_progress(r.l, "a", 1, 400, r.now);
	EQ(model(&r, "a")->state, LAUNCH_LOADING);
	ready(&r, "a");
	EQ(model(&r, "a")->state, LAUNCH_READY);
	assert_true(launcher_due(r.l) == UINT64_MAX);
	launcher_free(r.l);
}

TEST(a_pinned_model_is_loaded_without_a_request_and_never_idles_out)
{
	struct rig r = rig_of(&policy);

	add(&r, "a", 5, true);
	pass(&r, 0);
	DID(&r, "ask a, start a");
	ready(&r, "a");
	pass(&r, 3600);
	DID(&r, "");
	EQ(model(&r, "a")->state, LAUNCH_READY);
	launcher_free(r.l);
}

TEST(without_on_demand_only_a_person_loads_it)
{
	struct rig r = rig_of(&policy);
	const struct launch_conf c = { .alias = "a" };
	struct err e;

	OK(launcher_set(r.l, &c, r.now));
	launcher_demand(r.l, "a", r.now);
	DID(&r, "");
	OK(launcher_load(r.l, "a", r.now, &e));
	DID(&r, "ask a, start a");
	EQ(launcher_load(r.l, "b", r.now, &e), -ENOENT);
	launcher_free(r.l);
}

TEST(an_idle_model_goes_after_its_ttl_and_not_while_it_is_used)
{
	struct rig r = rig_of(&policy);

	add(&r, "a", 5, false);
	up(&r, "a");
	assert_true(launcher_due(r.l) == r.now + 5 * NS_PER_S);
	launcher_use(r.l, "a", 1, 0, r.now);
	pass(&r, 100);
	DID(&r, "");
	launcher_use(r.l, "a", 0, 0, r.now);	/* idle from now on */
	pass(&r, 4.9);
	DID(&r, "");
	launcher_router(r.l, false, r.now);	/* nobody says what is in use */
	pass(&r, 100);
	DID(&r, "");
	launcher_router(r.l, true, r.now);
	pass(&r, 4.9);
	DID(&r, "");
	pass(&r, 0.2);
	DID(&r, "stop a");
	EQ(model(&r, "a")->state, LAUNCH_STOPPING);
	ended(&r, "a", LAUNCH_ENDED);
	EQ(model(&r, "a")->state, LAUNCH_UNLOADED);
	DID(&r, "");
	launcher_free(r.l);
}

static struct launch_policy at_most(uint32_t n)
{
	struct launch_policy p = policy;

	p.max_models = n;
	return p;
}

TEST(with_one_place_the_other_model_goes_when_its_answers_are_done)
{
	const struct launch_policy p = at_most(1);
	struct rig r = rig_of(&p);

	add(&r, "a", 0, false);
	add(&r, "b", 0, false);
	up(&r, "a");
	launcher_use(r.l, "a", 2, 0, r.now);
	launcher_demand(r.l, "b", r.now);
	DID(&r, "");				/* a came a moment ago */
	assert_non_null(strstr(model(&r, "b")->reason, "places are taken"));
	assert_true(launcher_due(r.l) == r.now + 10 * NS_PER_S);
	pass(&r, 10);
	DID(&r, "");				/* it retires, and has two answers to finish */
	EQ(model(&r, "a")->state, LAUNCH_RETIRING);
	launcher_use(r.l, "a", 0, 3, r.now);	/* and is asked for again: that waits its turn */
	DID(&r, "stop a");
	ended(&r, "a", LAUNCH_ENDED);
	DID(&r, "ask b, start b");
	ready(&r, "b");
	DID(&r, "");
	pass(&r, 10);
	DID(&r, "stop b");
	ended(&r, "b", LAUNCH_ENDED);
	DID(&r, "ask a, start a");
	launcher_free(r.l);
}

TEST(answers_that_do_not_end_are_left_to_the_stop)
{
	const struct launch_policy p = at_most(1);
	struct rig r = rig_of(&p);

	add(&r, "a", 0, false);
	add(&r, "b", 0, false);
	up(&r, "a");
	pass(&r, 10);
	launcher_use(r.l, "a", 1, 0, r.now);
	launcher_demand(r.l, "b", r.now);
	pass(&r, 29.9);
	DID(&r, "");
	pass(&r, 0.2);
	DID(&r, "stop a");
	launcher_free(r.l);
}

TEST(the_idle_and_longest_unused_goes_first_and_a_pinned_one_never)
{
	const struct launch_policy p = at_most(3);
	struct rig r = rig_of(&p);

	add(&r, "pin", 0, true);
	pass(&r, 0);
	run(&r);
	ready(&r, "pin");
	add(&r, "busy", 0, false);
	add(&r, "idle", 0, false);
	add(&r, "new", 0, false);
	up(&r, "busy");
	pass(&r, 1);
	up(&r, "idle");
	pass(&r, 20);
	launcher_use(r.l, "busy", 1, 0, r.now);
	launcher_demand(r.l, "new", r.now);
	DID(&r, "stop idle");
	ended(&r, "idle", LAUNCH_ENDED);
	DID(&r, "ask new, start new");
	launcher_free(r.l);
}

TEST(wishes_are_served_in_their_order)
{
	const struct launch_policy p = at_most(1);
	struct rig r = rig_of(&p);

	add(&r, "c", 0, false);
	add(&r, "b", 0, false);
	add(&r, "a", 0, false);
	up(&r, "c");
	pass(&r, 10);
	launcher_demand(r.l, "a", r.now);
	launcher_demand(r.l, "b", r.now);
	DID(&r, "stop c");
	ended(&r, "c", LAUNCH_ENDED);
	DID(&r, "ask a, start a");
	ready(&r, "a");
	pass(&r, 10);
	DID(&r, "stop a");
	launcher_free(r.l);
}

TEST(memory_that_is_short_makes_just_enough_models_go)
{
	struct rig r = rig_of(&policy);

	add(&r, "a", 0, false);
	add(&r, "b", 0, false);
	add(&r, "c", 0, false);
	add(&r, "d", 0, false);
	up(&r, "a"), pass(&r, 1);
	up(&r, "b"), pass(&r, 1);
	up(&r, "c"), pass(&r, 20);
	r.no_room = true;
	r.short_by = 1500;
	launcher_demand(r.l, "d", r.now);
	DID(&r, "ask d, stop a, stop b");
	EQ(model(&r, "d")->state, LAUNCH_WAITING);
	assert_string_equal(model(&r, "d")->reason, "no memory");
	ended(&r, "a", LAUNCH_ENDED);
	r.short_by = 500;
	DID(&r, "ask d");			/* b is still going */
	r.no_room = false;
	ended(&r, "b", LAUNCH_ENDED);
	DID(&r, "ask d, start d");
	EQ(model(&r, "c")->state, LAUNCH_READY);
	launcher_free(r.l);
}

TEST(nobody_goes_for_a_model_that_would_not_fit_even_then)
{
	struct rig r = rig_of(&policy);

	add(&r, "a", 0, false);
	add(&r, "d", 0, false);
	up(&r, "a");
	pass(&r, 20);
	r.no_room = true;
	r.short_by = 5000;
	launcher_demand(r.l, "d", r.now);
	DID(&r, "ask d");
	EQ(model(&r, "a")->state, LAUNCH_READY);
	assert_true(launcher_due(r.l) == r.now + 5 * NS_PER_S);
	pass(&r, 5);
	DID(&r, "ask d");
	launcher_free(r.l);
}

TEST(a_worker_that_crashes_comes_back_ever_later_and_then_not_at_all)
{
	struct rig r = rig_of(&policy);
	const double pauses[] = { 1, 2, 4 };
	struct err e;

	add(&r, "a", 0, false);
	up(&r, "a");
	for (int i = 0; i < 3; i++) {
		ended(&r, "a", LAUNCH_FAILED);
		EQ(model(&r, "a")->state, LAUNCH_BACKOFF);
		assert_true(launcher_due(r.l) == r.now + (uint64_t)pauses[i] * NS_PER_S);
		pass(&r, pauses[i] - 0.1);
		DID(&r, "");
		pass(&r, 0.1);
		DID(&r, "ask a, start a");
		ready(&r, "a");
	}
	ended(&r, "a", LAUNCH_FAILED);
	EQ(model(&r, "a")->state, LAUNCH_QUARANTINED);
	assert_string_equal(model(&r, "a")->reason,
			    "4 failures in a row within 7 s, the last: killed by signal 9");
	launcher_demand(r.l, "a", r.now);
	pass(&r, 3600);
	DID(&r, "");
	EQ(launcher_ready_ms(r.l, model(&r, "a"), r.now), UINT32_MAX);
	OK(launcher_load(r.l, "a", r.now, &e));
	DID(&r, "ask a, start a");
	EQ(model(&r, "a")->failures, 0);
	launcher_free(r.l);
}

TEST(a_healthy_time_forgives)
{
	struct rig r = rig_of(&policy);

	add(&r, "a", 0, false);
	up(&r, "a");
	for (int i = 0; i < 10; i++) {
		ended(&r, "a", LAUNCH_FAILED);
		EQ(model(&r, "a")->failures, 1);
		pass(&r, 1);
		run(&r);
		ready(&r, "a");
		pass(&r, 60);
		EQ(model(&r, "a")->failures, 0);
	}
	launcher_free(r.l);
}

TEST(what_cannot_work_is_not_tried_again)
{
	struct rig r = rig_of(&policy);

	add(&r, "a", 0, false);
	launcher_demand(r.l, "a", r.now);
	run(&r);
	ended(&r, "a", LAUNCH_HOPELESS);
	EQ(model(&r, "a")->state, LAUNCH_QUARANTINED);
	add(&r, "a", 7, false);			/* its lines changed */
	launcher_demand(r.l, "a", r.now);
	DID(&r, "ask a, start a");
	launcher_free(r.l);
}

TEST(a_load_that_stands_still_is_ended_and_counts_as_failed)
{
	struct rig r = rig_of(&policy);

	add(&r, "a", 0, false);
	launcher_demand(r.l, "a", r.now);
	run(&r);
	launcher_progress(r.l, "a", 1, 10, r.now);
	pass(&r, 59);
	launcher_progress(r.l, "a", 1, 11, r.now);
	pass(&r, 59);
	launcher_progress(r.l, "a", 1, 11, r.now);	/* it speaks, but nothing moves */
	DID(&r, "");
	pass(&r, 1);
	DID(&r, "kill a");
	EQ(model(&r, "a")->state, LAUNCH_STOPPING);
	ended(&r, "a", LAUNCH_FAILED);
	EQ(model(&r, "a")->state, LAUNCH_BACKOFF);
	assert_non_null(strstr(model(&r, "a")->reason, "no progress for 60 s while loading"));
	launcher_free(r.l);
}

TEST(what_an_older_process_says_is_not_believed)
{
	struct rig r = rig_of(&policy);

	add(&r, "a", 0, false);
	up(&r, "a");
	ended(&r, "a", LAUNCH_FAILED);
	pass(&r, 1);
	run(&r);
	EQ(model(&r, "a")->instance, 2);
	launcher_ready(r.l, "a", 1, r.now);
	launcher_exited(r.l, "a", 1, LAUNCH_FAILED, "late", r.now);
	EQ(model(&r, "a")->state, LAUNCH_STARTING);
	launcher_free(r.l);
}

TEST(a_drained_model_stays_out_until_undrain)
{
	struct rig r = rig_of(&policy);
	struct err e;

	add(&r, "a", 0, true);
	pass(&r, 0);
	run(&r);
	ready(&r, "a");
	launcher_use(r.l, "a", 1, 0, r.now);
	OK(launcher_drain(r.l, "a", r.now, &e));
	EQ(model(&r, "a")->state, LAUNCH_RETIRING);
	launcher_use(r.l, "a", 1, 2, r.now);
	DID(&r, "");
	launcher_use(r.l, "a", 0, 2, r.now);
	DID(&r, "stop a");
	ended(&r, "a", LAUNCH_ENDED);
	launcher_demand(r.l, "a", r.now);
	pass(&r, 100);
	DID(&r, "");
	EQ(launcher_load(r.l, "a", r.now, &e), -EPERM);
	EQ(launcher_drain(r.l, "a", r.now, &e), -EALREADY);
	OK(launcher_undrain(r.l, "a", r.now, &e));
	DID(&r, "ask a, start a");		/* pinned: comes back by itself */
	launcher_free(r.l);
}

TEST(undrain_in_time_keeps_the_process)
{
	struct rig r = rig_of(&policy);
	struct err e;

	add(&r, "a", 0, false);
	up(&r, "a");
	launcher_use(r.l, "a", 1, 0, r.now);
	OK(launcher_drain(r.l, "a", r.now, &e));
	OK(launcher_undrain(r.l, "a", r.now, &e));
	EQ(model(&r, "a")->state, LAUNCH_READY);
	pass(&r, 100);
	DID(&r, "");
	launcher_free(r.l);
}

TEST(unload_takes_it_out_and_the_next_request_back)
{
	struct rig r = rig_of(&policy);
	struct err e;

	add(&r, "a", 0, false);
	up(&r, "a");
	OK(launcher_unload(r.l, "a", r.now, &e));
	DID(&r, "stop a");
	ended(&r, "a", LAUNCH_ENDED);
	EQ(launcher_unload(r.l, "a", r.now, &e), -EALREADY);
	launcher_demand(r.l, "a", r.now);
	DID(&r, "ask a, start a");
	OK(launcher_unload(r.l, "a", r.now, &e));	/* while it starts */
	DID(&r, "stop a");
	ended(&r, "a", LAUNCH_FAILED);			/* how it went is no matter */
	EQ(model(&r, "a")->state, LAUNCH_UNLOADED);
	EQ(model(&r, "a")->failures, 0);
	launcher_free(r.l);
}

TEST(a_worker_that_somebody_else_ended_stays_away)
{
	struct rig r = rig_of(&policy);

	add(&r, "a", 0, true);
	pass(&r, 0);
	run(&r);
	ready(&r, "a");
	ended(&r, "a", LAUNCH_ENDED);
	pass(&r, 100);
	DID(&r, "");
	launcher_demand(r.l, "a", r.now);
	DID(&r, "ask a, start a");
	launcher_free(r.l);
}

TEST(refused_memory_is_no_crash)
{
	struct rig r = rig_of(&policy);

	add(&r, "a", 0, false);
	launcher_demand(r.l, "a", r.now);
	run(&r);
	ended(&r, "a", LAUNCH_NO_ROOM);
	EQ(model(&r, "a")->state, LAUNCH_WAITING);
	EQ(model(&r, "a")->failures, 0);
	DID(&r, "");
	pass(&r, 5);
	DID(&r, "ask a, start a");
	launcher_free(r.l);
}

TEST(under_pressure_the_youngest_goes_at_once_and_stays_away_for_a_while)
{
	struct rig r = rig_of(&policy);

	add(&r, "a", 0, false);
	add(&r, "b", 0, false);
	up(&r, "a");
	pass(&r, 1);
	up(&r, "b");
	launcher_use(r.l, "b", 4, 0, r.now);
	assert_true(launcher_shed(r.l, NULL, "memory runs out", r.now));
	DID(&r, "stop b");
	ended(&r, "b", LAUNCH_ENDED);
	launcher_demand(r.l, "b", r.now);
	DID(&r, "");
	pass(&r, 29);
	DID(&r, "");
	pass(&r, 1);
	DID(&r, "ask b, start b");
	launcher_free(r.l);
}

TEST(the_time_to_ready_is_measured)
{
	struct rig r = rig_of(&policy);
	struct launch_conf c = { .alias = "a", .on_demand = true, .bytes = 64ull << 30 };
	uint32_t guess;

	OK(launcher_set(r.l, &c, r.now));
	guess = launcher_ready_ms(r.l, model(&r, "a"), r.now);
	assert_in_range(guess, 60000, 70000);		/* 1 GiB/s until something is known */
	launcher_demand(r.l, "a", r.now);
	run(&r);
	pass(&r, 10);
	launcher_progress(r.l, "a", 1, 250, r.now);
	EQ(launcher_ready_ms(r.l, model(&r, "a"), r.now), 30000);
	pass(&r, 30);
	ready(&r, "a");
	EQ(launcher_ready_ms(r.l, model(&r, "a"), r.now), 0);
	c.alias = "b";
	c.bytes = 32ull << 30;
	OK(launcher_set(r.l, &c, r.now));	/* half as large on the same box */
	assert_in_range(launcher_ready_ms(r.l, model(&r, "b"), r.now), 20000, 22000);
	launcher_free(r.l);
}

TEST(a_process_that_was_there_before_us_is_taken_over)
{
	struct rig r = rig_of(&policy);

	add(&r, "a", 5, false);
	add(&r, "b", 0, true);
	EQ(launcher_adopt(r.l, "a", true, r.now), 1);
	EQ(launcher_adopt(r.l, "b", false, r.now), 1);
	EQ(launcher_adopt(r.l, "b", false, r.now), 0);
	EQ(launcher_adopt(r.l, "zz", true, r.now), 0);
	pass(&r, 0);
	DID(&r, "");
	EQ(model(&r, "a")->state, LAUNCH_READY);
	ready(&r, "b");
	EQ(model(&r, "b")->last_load_ms, 0);		/* nobody saw it begin */
	pass(&r, 5);
	DID(&r, "stop a");
	launcher_free(r.l);
}

TEST(a_model_that_is_no_longer_configured_leaves_and_is_forgotten)
{
	struct rig r = rig_of(&policy);

	add(&r, "a", 0, true);
	add(&r, "b", 0, false);
	pass(&r, 0);
	run(&r);
	ready(&r, "a");
	launcher_remove(r.l, "a", r.now);
	launcher_remove(r.l, "b", r.now);
	DID(&r, "stop a");
	pass(&r, 1);
	EQ(launcher_count(r.l), 1);
	ended(&r, "a", LAUNCH_ENDED);
	pass(&r, 1);
	EQ(launcher_count(r.l), 0);
	launcher_free(r.l);
}

TEST(stopping_takes_all_with_it_and_starts_nothing)
{
	struct rig r = rig_of(&policy);

	add(&r, "a", 0, true);
	add(&r, "b", 0, false);
	pass(&r, 0);
	run(&r);
	ready(&r, "a");
	launcher_stop_all(r.l, r.now);
	DID(&r, "stop a");
	ended(&r, "a", LAUNCH_ENDED);
	launcher_demand(r.l, "b", r.now);
	pass(&r, 10);
	DID(&r, "");
	launcher_free(r.l);
}

/* Any order of events leaves it consistent: no start without memory judged, never two processes of
 * one alias, never more than the places there are, and a tick always moves due() on. */
TEST(no_order_of_events_breaks_a_promise)
{
	static const char *const names[] = { "a", "b", "c", "d", "e" };
	const struct launch_policy p = at_most(2);
	struct rig r = rig_of(&p);
	bool alive[5] = { 0 };
	uint32_t x = 1, starts = 0;
	struct err e;

	for (int i = 0; i < 5; i++)
		add(&r, names[i], i == 1 ? 7 : 0, i == 0);
	for (int step = 0; step < 200000; step++) {
		uint32_t k, n_alive = 0;
		struct launch_action act;

		x = x * 1664525 + 1013904223;
		k = (x >> 8) % 5;
		switch ((x >> 20) % 14) {
		case 0: case 1: launcher_demand(r.l, names[k], r.now); break;
		case 2: launcher_use(r.l, names[k], (x >> 12) % 3, (x >> 14) % 2, r.now); break;
		case 3: (void)launcher_load(r.l, names[k], r.now, &e); break;
		case 4: (void)launcher_unload(r.l, names[k], r.now, &e); break;
		case 5: (void)launcher_drain(r.l, names[k], r.now, &e); break;
		case 6: (void)launcher_undrain(r.l, names[k], r.now, &e); break;
		case 7: if (alive[k]) ready(&r, names[k]); break;
		case 8:
			if (alive[k])
				launcher_progress(r.l, names[k], model(&r, names[k])->instance,
						  (x >> 10) % 1001, r.now);
			break;
		case 9: case 10:
			if (alive[k]) {
				alive[k] = false;
				ended(&r, names[k], (enum launch_end)((x >> 16) % 4));
			}
			break;
		case 11: launcher_router(r.l, x >> 31, r.now); break;
		case 12: (void)launcher_shed(r.l, x & 4096 ? names[k] : NULL, "x", r.now); break;
		default: pass(&r, (double)(x % 4000) / 1000);
		}
		while (launcher_next(r.l, &act)) {
			size_t i = (size_t)(act.model->alias[0] - 'a');

			if (act.what == LAUNCH_ASK) {
				launcher_room(r.l, act.model->alias, x >> 31, 1000, "no", r.now);
			} else if (act.what == LAUNCH_START) {
				assert_false(alive[i]);
				alive[i] = true;
				starts++;
			} else {
				assert_true(alive[i]);
			}
		}
		for (int i = 0; i < 5; i++)
			n_alive += alive[i];
		assert_true(n_alive <= 2);
		launcher_tick(r.l, r.now);
		assert_true(launcher_due(r.l) > r.now);
		while (launcher_next(r.l, &act)) {
			size_t i = (size_t)(act.model->alias[0] - 'a');

			if (act.what == LAUNCH_ASK)
				launcher_room(r.l, act.model->alias, true, 0, NULL, r.now);
			else if (act.what == LAUNCH_START)
				assert_false(alive[i]), alive[i] = true, starts++;
		}
	}
	assert_true(starts > 1000);
	launcher_free(r.l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_request_loads_a_model),
		cmocka_unit_test(a_pinned_model_is_loaded_without_a_request_and_never_idles_out),
		cmocka_unit_test(without_on_demand_only_a_person_loads_it),
		cmocka_unit_test(an_idle_model_goes_after_its_ttl_and_not_while_it_is_used),
		cmocka_unit_test(with_one_place_the_other_model_goes_when_its_answers_are_done),
		cmocka_unit_test(answers_that_do_not_end_are_left_to_the_stop),
		cmocka_unit_test(the_idle_and_longest_unused_goes_first_and_a_pinned_one_never),
		cmocka_unit_test(wishes_are_served_in_their_order),
		cmocka_unit_test(memory_that_is_short_makes_just_enough_models_go),
		cmocka_unit_test(nobody_goes_for_a_model_that_would_not_fit_even_then),
		cmocka_unit_test(a_worker_that_crashes_comes_back_ever_later_and_then_not_at_all),
		cmocka_unit_test(a_healthy_time_forgives),
		cmocka_unit_test(what_cannot_work_is_not_tried_again),
		cmocka_unit_test(a_load_that_stands_still_is_ended_and_counts_as_failed),
		cmocka_unit_test(what_an_older_process_says_is_not_believed),
		cmocka_unit_test(a_drained_model_stays_out_until_undrain),
		cmocka_unit_test(undrain_in_time_keeps_the_process),
		cmocka_unit_test(unload_takes_it_out_and_the_next_request_back),
		cmocka_unit_test(a_worker_that_somebody_else_ended_stays_away),
		cmocka_unit_test(refused_memory_is_no_crash),
		cmocka_unit_test(
			under_pressure_the_youngest_goes_at_once_and_stays_away_for_a_while),
		cmocka_unit_test(the_time_to_ready_is_measured),
		cmocka_unit_test(a_process_that_was_there_before_us_is_taken_over),
		cmocka_unit_test(a_model_that_is_no_longer_configured_leaves_and_is_forgotten),
		cmocka_unit_test(stopping_takes_all_with_it_and_starts_nothing),
		cmocka_unit_test(no_order_of_events_breaks_a_promise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
