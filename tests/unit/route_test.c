/* route_test.c - claims about the choice of a target. */
#include "tests/unit/unit.h"

#include "lib/clock.h"
#include "router/route.h"

static struct route_target target(uint32_t step, uint32_t load)
{
	return (struct route_target){ .step = step, .able = ABLE_ALL, .load = load, .room = 10,
				      .up = true };
}

static const struct route_need chat = { .able = ABLE_CHAT };

TEST(the_first_step_wins_whatever_its_load)
{
	struct route_target t[] = { target(1, 0), target(0, 9) };
	struct route_answer a = route_next(&chat, t, 2, 0);

	EQ(a.why, ROUTE_OK);
	EQ(a.target, 1);
}

TEST(of_equals_the_least_loaded_then_the_longest_unused)
{
	struct route_target t[] = { target(0, 2), target(0, 1), target(0, 1) };

	t[1].last_used_ns = 5;
	t[2].last_used_ns = 4;
	EQ(route_next(&chat, t, 3, 0).target, 2);
	t[0].load = 0;
	EQ(route_next(&chat, t, 3, 0).target, 0);
}

TEST(down_tried_full_and_resting_targets_are_passed_over)
{
	struct route_target t[] = { target(0, 0), target(1, 0), target(2, 10), target(3, 0), target(4, 0) };

	t[0].up = false;
	t[1].tried = true;
	t[3].not_before_ns = 100;
	EQ(route_next(&chat, t, 5, 50).target, 4);
	EQ(route_next(&chat, t, 5, 100).target, 3);
}

TEST(a_target_that_cannot_is_never_asked)
{
	const struct route_need need = { .able = ABLE_CHAT | ABLE_VISION };
	struct route_target t[] = { target(0, 0), target(1, 0) };
	struct route_answer a;

	t[0].able = ABLE_CHAT;
	EQ(route_next(&need, t, 2, 0).target, 1);
	t[1].able = ABLE_CHAT | ABLE_TOOLS;
	a = route_next(&need, t, 2, 0);
	EQ(a.why, ROUTE_UNABLE);
	EQ(a.lacking, ABLE_VISION);
}

TEST(context_counts_where_it_is_known)
{
	const struct route_need need = { .able = ABLE_CHAT, .tokens = 100 };
	struct route_target t[] = { target(0, 0), target(1, 0) };

	t[0].max_context = 99;
	EQ(route_next(&need, t, 2, 0).target, 1);
	t[1].max_context = 50;
	EQ(route_next(&need, t, 2, 0).why, ROUTE_CONTEXT);
}

TEST(the_reason_is_the_one_that_got_furthest)
{
	struct route_target t[] = { target(0, 0), target(0, 10) };
	struct route_answer a;

	EQ(route_next(&chat, t, 0, 0).why, ROUTE_NONE);
	t[0].up = false;
	a = route_next(&chat, t, 2, 0);
	EQ(a.why, ROUTE_BUSY);
	EQ(a.wait_ns, 0);
	t[1].not_before_ns = 30;
	a = route_next(&chat, t, 2, 10);
	EQ(a.wait_ns, 20);
	t[1].tried = true;
	EQ(route_next(&chat, t, 2, 10).why, ROUTE_TRIED);
}

TEST(a_breaker_opens_after_its_limit_and_doubles)
{
	struct route_breaker b = { 0 };

	route_breaker_fail(&b, 3, 100, 0);
	route_breaker_fail(&b, 3, 100, 0);
	EQ(route_breaker_until(&b), 0);
	route_breaker_fail(&b, 3, 100, 0);
	EQ(route_breaker_until(&b), 100 * NS_PER_MS);
	route_breaker_fail(&b, 3, 100, 0);
	EQ(route_breaker_until(&b), 200 * NS_PER_MS);
	for (int i = 0; i < 40; i++)
		route_breaker_fail(&b, 3, 100, 0);
	EQ(route_breaker_until(&b), 60000 * NS_PER_MS);
	route_breaker_ok(&b);
	EQ(route_breaker_until(&b), 0);
}

TEST(one_request_at_a_time_finds_out_whether_it_is_well)
{
	struct route_breaker b = { 0 };

	route_breaker_fail(&b, 1, 100, 0);
	route_breaker_use(&b, 100 * NS_PER_MS);
	assert_true(route_breaker_until(&b) == UINT64_MAX);
	route_breaker_ok(&b);
	route_breaker_use(&b, 0);
	EQ(route_breaker_until(&b), 0);
}

TEST(a_cooldown_is_kept_but_is_no_failure)
{
	struct route_breaker b = { 0 };

	route_breaker_cool(&b, 500, 0);
	route_breaker_cool(&b, 100, 0);
	EQ(route_breaker_until(&b), 500 * NS_PER_MS);
	EQ(b.failures, 0);
}

TEST(every_ability_has_a_name_and_back)
{
	for (uint32_t bit = 1; bit & ABLE_ALL; bit <<= 1)
		EQ(route_able_bit(route_able_name(bit)), bit);
	EQ(route_able_bit("flying"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_step_wins_whatever_its_load),
		cmocka_unit_test(of_equals_the_least_loaded_then_the_longest_unused),
		cmocka_unit_test(down_tried_full_and_resting_targets_are_passed_over),
		cmocka_unit_test(a_target_that_cannot_is_never_asked),
		cmocka_unit_test(context_counts_where_it_is_known),
		cmocka_unit_test(the_reason_is_the_one_that_got_furthest),
		cmocka_unit_test(a_breaker_opens_after_its_limit_and_doubles),
		cmocka_unit_test(one_request_at_a_time_finds_out_whether_it_is_well),
		cmocka_unit_test(a_cooldown_is_kept_but_is_no_failure),
		cmocka_unit_test(every_ability_has_a_name_and_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
