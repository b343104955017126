/* broker_test.c - the broker in front of a simulated box, whose memory is what the test says. */
#include <stdio.h>
#include <string.h>

#include "daemon/broker.h"
#include "lib/bytes.h"
#include "lib/clock.h"
#include "tests/unit/unit.h"

#define GIB BYTES_GIB
#define ID1 1000

/* A box of 121 GiB: what is neither used nor cache is free. */
struct sim {
	struct broker *b;
	uint64_t now, used, cache;
	uint64_t gpu_free;
	uint32_t psi;
	struct broker_action a;
};

static const struct broker_policy defaults = {
	.reserve = 12 * GIB, .gpu_reserve = GIB, .yellow = 6 * GIB, .red = 3 * GIB,
	.yellow_psi = 10, .red_psi = 40, .calm_ms = 2000, .back_ms = 10000,
	.drop = DROP_AUTO, .judge = JUDGE_FREE,
};

static void measure(struct sim *s)
{
	struct broker_measure m = { .total = 121 * GIB, .free = 121 * GIB - s->used - s->cache,
				    .available = 121 * GIB - s->used, .droppable = s->cache,
				    .psi = s->psi };

	if (s->gpu_free) {
		m.gpu_total[0] = 96 * GIB;
		m.gpu_free[0] = s->gpu_free;
	}
	broker_measure(s->b, &m, s->now);
}

static void pass(struct sim *s, uint64_t ms)
{
	s->now += ms * NS_PER_MS;
	measure(s);
}

static struct sim begin(const struct broker_policy *p, uint64_t used, uint64_t cache)
{
	struct sim s = { .now = NS_PER_S, .used = used, .cache = cache };

	OK(broker_new(p, ID1, &s.b));
	measure(&s);
	return s;
}

static void end(struct sim *s)
{
	broker_free(s->b);
}

static uint64_t claim(struct sim *s, const char *alias, int pid, uint64_t bytes)
{
	const struct broker_need n = { .weights = bytes - GIB / 2, .kv = GIB / 2 };
	struct err e;
	uint64_t id;

	OK(broker_claim(s->b, alias, pid, -1, false, &n, s->now, &id, &e));
	return id;
}

static void expect(struct sim *s, enum broker_what what)
{
	assert_true(broker_next(s->b, s->now, &s->a));
	EQ(s->a.what, what);
}

static void expect_nothing(struct sim *s)
{
	assert_false(broker_next(s->b, s->now, &s->a));
}

/* The rest of a judgement that ends badly: nobody can be stopped, one holder is found. */
static void expect_refusal(struct sim *s)
{
	const struct broker_holder h = { "unit docker-tts.scope", 14 * GIB };

	expect(s, BROKER_MAKE_ROOM);
	broker_no_room(s->b, s->a.claim.id);
	expect(s, BROKER_LOOK);
	broker_holders(s->b, s->a.claim.id, &h, 1);
	expect(s, BROKER_REFUSE);
}

static void has(const struct sim *s, const char *text)
{
	if (!strstr(s->a.text, text))
		fail_msg("'%s' is not in: %s", text, s->a.text);
}

TEST(fits_at_once)
{
	struct sim s = begin(&defaults, 8 * GIB, 4 * GIB);
	uint64_t id = claim(&s, "m", 1, 70 * GIB);

	EQ(id, ID1);
	expect(&s, BROKER_GRANT);
	EQ(s.a.claim.host, 70 * GIB);
	expect_nothing(&s);
	EQ(broker_owed(s.b, -1), 70 * GIB);
	end(&s);
}

TEST(nothing_is_judged_before_it_was_measured)
{
	struct sim s = { .now = 1 };

	OK(broker_new(&defaults, 1, &s.b));
	claim(&s, "m", 1, GIB);
	expect_nothing(&s);
	measure(&s);
	expect(&s, BROKER_GRANT);
	end(&s);
}

/* Exactly usable is granted, a byte more is not. */
TEST(reserve_is_exact)
{
	struct sim s = begin(&defaults, 9 * GIB, 0);

	claim(&s, "m", 1, 100 * GIB);
	expect(&s, BROKER_GRANT);
	end(&s);
	s = begin(&defaults, 9 * GIB, 0);
	claim(&s, "m", 1, 100 * GIB + 1);
	expect_refusal(&s);
	EQ(s.a.short_by, 1);
	end(&s);
}

/* What cannot be had whatever goes costs nobody his cache or his workload. */
TEST(too_large_for_the_box)
{
	struct sim s = begin(&defaults, 9 * GIB, 50 * GIB);

	claim(&s, "m", 1, 109 * GIB + 1);
	expect(&s, BROKER_LOOK);
	broker_holders(s.b, ID1, NULL, 0);
	expect(&s, BROKER_REFUSE);
	has(&s, "the box is too small");
	claim(&s, "n", 2, 60 * GIB);
	expect(&s, BROKER_GRANT);
	claim(&s, "o", 3, 50 * GIB);
	expect(&s, BROKER_LOOK);
	end(&s);
}

/* 102 GiB of another model's cache: MemFree is below the need, dropping makes room. */
TEST(drops_before_it_judges)
{
	struct sim s = begin(&defaults, 5 * GIB, 102 * GIB);

	claim(&s, "m", 1, 70 * GIB);
	expect(&s, BROKER_DROP);
	expect_nothing(&s);
	s.cache = GIB;
	measure(&s);
	broker_dropped(s.b, ID1, true);
	expect(&s, BROKER_GRANT);
	end(&s);
}

TEST(never_drops_when_told_so)
{
	struct broker_policy p = defaults;
	struct sim s;

	p.drop = DROP_NEVER;
	s = begin(&p, 5 * GIB, 102 * GIB);
	claim(&s, "big", 1, 70 * GIB);
	expect_refusal(&s);
	EQ(s.a.short_by, 56 * GIB);
	has(&s, "big needs 70.0 GiB (weights 69.5 GiB + kv 512 MiB), 56.0 GiB too much");
	has(&s, "MemFree 14.0 GiB, MemAvailable 116.0 GiB of 121.0 GiB");
	has(&s, "reserve 12.0 GiB");
	has(&s, "drop_caches = never");
	has(&s, "unit docker-tts.scope 14.0 GiB");
	EQ(broker_at(s.b, 0) == NULL, 1);
	end(&s);
}

TEST(always_drops_even_when_it_fits)
{
	struct broker_policy p = defaults;
	struct sim s;

	p.drop = DROP_ALWAYS;
	s = begin(&p, GIB, GIB);
	claim(&s, "m", 1, GIB);
	expect(&s, BROKER_DROP);
	broker_dropped(s.b, ID1, true);
	expect(&s, BROKER_GRANT);
	end(&s);
}

/* A device that can make the kernel give cache up needs no drop. */
TEST(judge_available_counts_cache_as_free)
{
	struct broker_policy p = defaults;
	struct sim s;

	p.judge = JUDGE_AVAILABLE;
	s = begin(&p, 5 * GIB, 102 * GIB);
	claim(&s, "m", 1, 70 * GIB);
	expect(&s, BROKER_GRANT);
	end(&s);
}

/* Nobody may drop caches here: a CPU worker gets what the kernel can reclaim, a GPU does not. */
TEST(without_a_helper_the_cpu_reclaims)
{
	const struct broker_need n = { .weights = 70 * GIB };
	struct sim s = begin(&defaults, 5 * GIB, 102 * GIB);
	struct err e;
	uint64_t id;

	OK(broker_claim(s.b, "cpu", 1, -1, true, &n, s.now, &id, &e));
	expect(&s, BROKER_DROP);
	broker_dropped(s.b, id, false);
	expect(&s, BROKER_GRANT);
	broker_gone(s.b, id, s.now);
	OK(broker_claim(s.b, "gpu", 2, -1, false, &n, s.now, &id, &e));
	expect(&s, BROKER_DROP);
	broker_dropped(s.b, id, false);
	expect_refusal(&s);
	has(&s, "caches could not be dropped");
	end(&s);
}

TEST(what_is_owed_is_not_granted_twice)
{
	struct sim s = begin(&defaults, 9 * GIB, 0);

	claim(&s, "a", 1, 50 * GIB);
	claim(&s, "b", 2, 55 * GIB);
	expect(&s, BROKER_GRANT);
	expect_refusal(&s);
	EQ(s.a.claim.pid, 2);
	has(&s, "granted and not yet taken 50.0 GiB");
	has(&s, "worker a (process 1) 50.0 GiB");
	/* as the first takes it, owed turns into used: the sum stays */
	s.used += 50 * GIB;
	measure(&s);
	broker_taken(s.b, ID1, 50 * GIB, 0);
	EQ(broker_owed(s.b, -1), 0);
	EQ(broker_usable(s.b, -1), 50 * GIB);
	end(&s);
}

/* One at a time: while one is judged, the next waits, and gets what is left. */
TEST(judgements_are_serialised)
{
	struct sim s = begin(&defaults, 5 * GIB, 102 * GIB);

	claim(&s, "a", 1, 70 * GIB);
	claim(&s, "b", 2, 10 * GIB);	/* would fit at once */
	expect(&s, BROKER_DROP);
	EQ(s.a.claim.pid, 1);
	expect_nothing(&s);
	s.cache = 0;
	measure(&s);
	broker_dropped(s.b, ID1, true);
	expect(&s, BROKER_GRANT);
	EQ(s.a.claim.pid, 1);
	expect(&s, BROKER_GRANT);
	EQ(s.a.claim.pid, 2);
	end(&s);
}

/* The kernel takes its time: a dead worker's bytes are granted when they are measured. */
TEST(dead_bytes_come_back_first)
{
	struct sim s = begin(&defaults, 9 * GIB, 0);
	uint64_t a = claim(&s, "a", 1, 90 * GIB);

	expect(&s, BROKER_GRANT);
	s.used += 90 * GIB;
	measure(&s);
	broker_taken(s.b, a, 90 * GIB, 0);
	claim(&s, "b", 2, 90 * GIB);
	broker_gone(s.b, a, s.now);
	EQ(broker_awaited(s.b), 90 * GIB);
	expect(&s, BROKER_WAIT);
	has(&s, "on their way back");
	pass(&s, 200);
	expect_nothing(&s);
	s.used -= 60 * GIB;
	pass(&s, 200);
	EQ(broker_awaited(s.b), 30 * GIB);
	expect_nothing(&s);
	s.used -= 30 * GIB;
	pass(&s, 200);
	expect(&s, BROKER_GRANT);
	end(&s);
}

TEST(dead_bytes_that_never_come_back_are_refused)
{
	struct sim s = begin(&defaults, 9 * GIB, 0);
	uint64_t a = claim(&s, "a", 1, 90 * GIB);

	expect(&s, BROKER_GRANT);
	s.used += 90 * GIB;
	measure(&s);
	broker_taken(s.b, a, 90 * GIB, 0);
	broker_gone(s.b, a, s.now);
	claim(&s, "b", 2, 90 * GIB);
	expect(&s, BROKER_WAIT);
	pass(&s, 9900);
	expect_nothing(&s);
	pass(&s, 200);
	expect_refusal(&s);
	end(&s);
}

/* What another lease takes meanwhile must not look like memory that failed to come back. */
TEST(awaited_is_not_confused_by_others)
{
	struct sim s = begin(&defaults, 0, 0);
	uint64_t a = claim(&s, "a", 1, 40 * GIB), b = claim(&s, "b", 2, 40 * GIB);

	expect(&s, BROKER_GRANT);
	expect(&s, BROKER_GRANT);
	s.used = 40 * GIB;
	measure(&s);
	broker_taken(s.b, a, 40 * GIB, 0);
	broker_gone(s.b, a, s.now);
	s.used = 40 * GIB;	/* a's came back, b took as much */
	broker_taken(s.b, b, 40 * GIB, 0);
	pass(&s, 200);
	EQ(broker_awaited(s.b), 0);
	end(&s);
}

TEST(a_workload_makes_room_then_caches_are_dropped_again)
{
	struct sim s = begin(&defaults, 95 * GIB, 20 * GIB);

	claim(&s, "m", 1, 70 * GIB);
	expect(&s, BROKER_DROP);
	s.cache = 0;
	measure(&s);
	broker_dropped(s.b, ID1, true);
	expect(&s, BROKER_MAKE_ROOM);
	EQ(s.a.short_by, 56 * GIB);
	broker_stopping(s.b, ID1);
	expect_nothing(&s);
	s.used = 30 * GIB;
	s.cache = 30 * GIB;
	pass(&s, 300);
	broker_stopped(s.b, ID1, s.now);
	expect(&s, BROKER_DROP);
	s.cache = 0;
	measure(&s);
	broker_dropped(s.b, ID1, true);
	expect(&s, BROKER_GRANT);
	end(&s);
}

TEST(a_stopped_workload_that_was_not_enough)
{
	struct sim s = begin(&defaults, 95 * GIB, 0);

	claim(&s, "m", 1, 70 * GIB);
	expect(&s, BROKER_MAKE_ROOM);
	broker_stopping(s.b, ID1);
	s.used = 80 * GIB;
	pass(&s, 100);
	broker_stopped(s.b, ID1, s.now);
	expect(&s, BROKER_WAIT);
	pass(&s, 10001);
	expect_refusal(&s);
	has(&s, "1 foreign workload stopped for it");
	end(&s);
}

/* A later hearthd: what live workers present holds, and its ids are not given out again. */
TEST(leases_are_rebuilt)
{
	struct sim s = begin(&defaults, 100 * GIB, 0);
	const struct broker_need n = { .weights = 80 * GIB };
	struct err e;
	uint64_t id;

	OK(broker_adopt(s.b, 5000, "a", 1, -1, false, &n, s.now, &e));
	OK(broker_adopt(s.b, 5000, "a", 1, -1, false, &n, s.now, &e));	/* again: the same */
	EQ(broker_adopt(s.b, 5000, "b", 2, -1, false, &n, s.now, &e), -EEXIST);
	EQ(broker_adopt(s.b, 0, "b", 2, -1, false, &n, s.now, &e), -EINVAL);
	broker_taken(s.b, 5000, 80 * GIB, 0);
	expect_nothing(&s);
	EQ(broker_owed(s.b, -1), 0);
	id = claim(&s, "c", 3, GIB);
	EQ(id, 5001);
	end(&s);
}

TEST(a_claim_whose_worker_left_is_forgotten)
{
	struct sim s = begin(&defaults, 5 * GIB, 102 * GIB);
	uint64_t a = claim(&s, "a", 1, 70 * GIB);

	claim(&s, "b", 2, 10 * GIB);
	expect(&s, BROKER_DROP);
	broker_gone(s.b, a, s.now);
	broker_dropped(s.b, a, true);			/* late words about it do no harm */
	broker_stopped(s.b, a, s.now);
	EQ(broker_awaited(s.b), 0);
	expect(&s, BROKER_GRANT);
	EQ(s.a.claim.pid, 2);
	end(&s);
}

TEST(budgets_that_no_box_has)
{
	struct sim s = begin(&defaults, 0, 0);
	struct broker_need n = { .weights = UINT64_MAX, .kv = 2 };
	struct err e;
	uint64_t id;

	EQ(broker_claim(s.b, "m", 1, -1, false, &n, s.now, &id, &e), -EINVAL);
	n = (struct broker_need){ 0 };
	EQ(broker_claim(s.b, "m", 1, -1, false, &n, s.now, &id, &e), -EINVAL);
	n.weights = 1;
	EQ(broker_claim(s.b, "m", 1, BROKER_MAX_GPUS, false, &n, s.now, &id, &e), -EINVAL);
	EQ(broker_claim(s.b, "m", 1, 3, false, &n, s.now, &id, &e), -EINVAL);	/* no such pool */
	OK(broker_claim(s.b, "m", 1, -1, false, &n, s.now, &id, &e));
	EQ(broker_claim(s.b, "m", 1, -1, false, &n, s.now, &id, &e), -EBUSY);
	for (int i = 2; i <= BROKER_MAX_CLAIMS; i++)
		OK(broker_claim(s.b, "m", i, -1, false, &n, s.now, &id, &e));
	EQ(broker_claim(s.b, "m", 999, -1, false, &n, s.now, &id, &e), -ENOSPC);
	end(&s);
}

/* A card with memory of its own: its bytes are its pool's, pinned ones are the box's. */
TEST(a_gpu_is_a_pool_of_its_own)
{
	struct sim s = begin(&defaults, 5 * GIB, 110 * GIB);
	const struct broker_need n = { .weights = 60 * GIB, .pinned = GIB };
	const struct broker_need small = { .weights = 30 * GIB };
	struct err e;
	uint64_t id;

	s.gpu_free = 62 * GIB;
	measure(&s);
	OK(broker_claim(s.b, "m", 1, 0, false, &n, s.now, &id, &e));
	expect(&s, BROKER_GRANT);	/* the box's cache is not in its way */
	EQ(broker_owed(s.b, 0), 60 * GIB);
	EQ(broker_owed(s.b, -1), GIB);
	OK(broker_claim(s.b, "n", 2, 0, false, &small, s.now, &id, &e));
	expect_refusal(&s);
	has(&s, "GPU 0 has 62.0 GiB free of 96.0 GiB");
	end(&s);
}

TEST(levels_go_up_at_once_and_down_after_a_while)
{
	struct sim s = begin(&defaults, 100 * GIB, 0);

	expect_nothing(&s);
	s.used = 116 * GIB;
	pass(&s, 100);
	expect(&s, BROKER_LEVEL);
	EQ(s.a.level, LEVEL_YELLOW);
	s.used = 119 * GIB;
	pass(&s, 100);
	expect(&s, BROKER_LEVEL);
	EQ(s.a.level, LEVEL_RED);
	s.used = 100 * GIB;
	pass(&s, 100);
	expect_nothing(&s);
	pass(&s, 1000);
	expect_nothing(&s);
	pass(&s, 1000);
	expect(&s, BROKER_LEVEL);
	EQ(s.a.level, LEVEL_GREEN);
	end(&s);
}

TEST(red_stops_the_youngest_when_nothing_else_helped)
{
	struct sim s = begin(&defaults, 0, 0);

	claim(&s, "old", 1, 20 * GIB);
	expect(&s, BROKER_GRANT);
	pass(&s, 100);
	claim(&s, "young", 2, 20 * GIB);
	expect(&s, BROKER_GRANT);
	s.used = 119 * GIB;
	pass(&s, 100);
	expect(&s, BROKER_LEVEL);
	expect_nothing(&s);		/* they get a moment to preempt */
	pass(&s, 600);
	expect(&s, BROKER_STOP_YOUNGEST);
	EQ(s.a.claim.pid, 2);
	pass(&s, 100);
	expect_nothing(&s);		/* one at a time, with time to end */
	broker_gone(s.b, s.a.claim.id ? s.a.claim.id : ID1 + 1, s.now);
	pass(&s, 10000);
	expect(&s, BROKER_STOP_YOUNGEST);
	EQ(s.a.claim.pid, 1);
	end(&s);
}

/* Red that is over, but not for calm_ms yet, costs nobody a worker. */
TEST(lingering_red_stops_nobody)
{
	struct sim s = begin(&defaults, 0, 0);

	claim(&s, "m", 1, 20 * GIB);
	expect(&s, BROKER_GRANT);
	s.used = 119 * GIB;
	pass(&s, 100);
	expect(&s, BROKER_LEVEL);
	s.used = 80 * GIB;
	pass(&s, 600);
	expect_nothing(&s);
	end(&s);
}

TEST(pressure_counts_only_when_memory_is_short)
{
	struct sim s = begin(&defaults, 50 * GIB, 0);

	s.psi = 90;
	pass(&s, 100);
	expect_nothing(&s);		/* somebody's own limit, not the box */
	s.used = 112 * GIB;		/* below the reserve, above yellow */
	pass(&s, 100);
	expect(&s, BROKER_LEVEL);
	EQ(s.a.level, LEVEL_RED);
	end(&s);
}

TEST(limit_makes_the_box_smaller)
{
	struct broker_policy p = defaults;
	struct sim s;

	p.limit = 21 * GIB;
	p.reserve = GIB;
	p.yellow = p.red = 0;
	s = begin(&p, 5 * GIB, 100 * GIB);
	EQ(broker_measured(s.b)->total, 21 * GIB);
	EQ(broker_measured(s.b)->free, 0);
	EQ(broker_measured(s.b)->available, 16 * GIB);
	claim(&s, "m", 1, 10 * GIB);
	expect(&s, BROKER_DROP);
	s.cache = 0;
	measure(&s);
	broker_dropped(s.b, ID1, true);
	expect(&s, BROKER_GRANT);
	end(&s);
}

TEST(would_fit_counts_what_can_be_had_back)
{
	struct sim s = begin(&defaults, 95 * GIB, 20 * GIB);
	uint64_t lack;

	assert_true(broker_would_fit(s.b, 14 * GIB, 0, &lack));
	EQ(lack, 0);
	assert_false(broker_would_fit(s.b, 15 * GIB, 0, &lack));
	EQ(lack, GIB);
	assert_true(broker_would_fit(s.b, 15 * GIB, GIB, &lack));
	end(&s);
}

/* However long the list of holders: the text is cut and terminated. */
TEST(refusals_fit_their_line)
{
	struct broker_holder h[BROKER_MAX_HOLDERS];
	struct sim s = begin(&defaults, 120 * GIB, 0);
	char small[40];

	for (size_t i = 0; i < BROKER_MAX_HOLDERS; i++) {
		memset(h[i].name, 'x', sizeof(h[i].name) - 1);
		h[i].name[sizeof(h[i].name) - 1] = '\0';
		h[i].bytes = GIB;
	}
	claim(&s, "m", 1, GIB);
	expect(&s, BROKER_LEVEL);
	expect(&s, BROKER_MAKE_ROOM);
	broker_say_refusal(s.b, &s.a.claim, h, BROKER_MAX_HOLDERS, small, sizeof(small));
	EQ(strlen(small), sizeof(small) - 1);
	broker_no_room(s.b, ID1);
	expect(&s, BROKER_LOOK);
	broker_holders(s.b, ID1, h, BROKER_MAX_HOLDERS);
	expect(&s, BROKER_REFUSE);
	assert_true(strlen(s.a.text) < BROKER_TEXT);
	end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fits_at_once),
		cmocka_unit_test(nothing_is_judged_before_it_was_measured),
		cmocka_unit_test(reserve_is_exact),
		cmocka_unit_test(too_large_for_the_box),
		cmocka_unit_test(drops_before_it_judges),
		cmocka_unit_test(never_drops_when_told_so),
		cmocka_unit_test(always_drops_even_when_it_fits),
		cmocka_unit_test(judge_available_counts_cache_as_free),
		cmocka_unit_test(without_a_helper_the_cpu_reclaims),
		cmocka_unit_test(what_is_owed_is_not_granted_twice),
		cmocka_unit_test(judgements_are_serialised),
		cmocka_unit_test(dead_bytes_come_back_first),
		cmocka_unit_test(dead_bytes_that_never_come_back_are_refused),
		cmocka_unit_test(awaited_is_not_confused_by_others),
		cmocka_unit_test(a_workload_makes_room_then_caches_are_dropped_again),
		cmocka_unit_test(a_stopped_workload_that_was_not_enough),
		cmocka_unit_test(leases_are_rebuilt),
		cmocka_unit_test(a_claim_whose_worker_left_is_forgotten),
		cmocka_unit_test(budgets_that_no_box_has),
		cmocka_unit_test(a_gpu_is_a_pool_of_its_own),
		cmocka_unit_test(levels_go_up_at_once_and_down_after_a_while),
		cmocka_unit_test(red_stops_the_youngest_when_nothing_else_helped),
		cmocka_unit_test(lingering_red_stops_nobody),
		cmocka_unit_test(pressure_counts_only_when_memory_is_short),
		cmocka_unit_test(limit_makes_the_box_smaller),
		cmocka_unit_test(would_fit_counts_what_can_be_had_back),
		cmocka_unit_test(refusals_fit_their_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
