/* chunk_test.c - rows of prompts beside answers follow what steps took. */
#include "tests/unit/unit.h"

#include "kernels/step.h"
#include "worker/chunk.h"

#define MS 1000000ull

/* A step of a device that takes `base` for answers and `each` for a row. */
static uint64_t step_ns(uint32_t rows, uint64_t base, uint64_t each)
{
	return base + rows * each;
}

static void rows_become_what_the_pause_permits(void **state)
{
	/* an H200, a slow GPU, a CPU: and what the pause of 45 ms is worth there */
	static const struct { uint64_t base, each; } of[] = {
		{ 17 * MS, 14000 }, { 20 * MS, 200000 }, { 10 * MS, 2 * MS } };

	(void)state;
	for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++) {
		struct chunk c = { 128, 8192, 45 * MS, 0 };
		const uint64_t fit = (45 * MS - of[i].base) / of[i].each;
		uint64_t ns = 0;

		for (int n = 0; n < 24; n++) {
			ns = step_ns(c.rows, of[i].base, of[i].each);
			chunk_took(&c, c.rows, ns);
			assert_true(c.rows >= STEP_GRID && c.rows % STEP_GRID == 0);
		}
		if (fit < STEP_GRID) {
			assert_int_equal(c.rows, STEP_GRID);
			continue;
		}
		assert_true(ns <= 45 * MS && c.rows <= fit);
		assert_true(c.rows + 2 * STEP_GRID > fit * 9 / 10);
	}
}

static void one_slow_step_is_enough_to_shrink(void **state)
{
	struct chunk c = { 2048, 8192, 45 * MS, 0 };

	(void)state;
	chunk_took(&c, 2048, 180 * MS);
	assert_int_equal(c.rows, 512);
	chunk_took(&c, 512, 1);	/* and none to grow at once */
	assert_int_equal(c.rows, 1024);
}

static void ends_of_prompts_say_nothing(void **state)
{
	struct chunk c = { 2048, 8192, 45 * MS, 0 };

	(void)state;
	chunk_took(&c, 64, 18 * MS);
	chunk_took(&c, 63, 100 * MS);
	chunk_took(&c, 0, 100 * MS);
	assert_int_equal(c.rows, 2048);
	chunk_took(&c, 1024, 90 * MS);	/* but that is too slow already */
	assert_int_equal(c.rows, 512);
}

/* 150 ms for the answers alone, 60 for any prompt beside them, 0.3 for a row of it. */
static void slow_answers_do_not_starve_prompts(void **state)
{
	struct chunk c = { 128, 8192, 45 * MS, 0 };
	uint64_t ns = 0;

	(void)state;
	for (int n = 0; n < 8; n++)
		chunk_answers_took(&c, 150 * MS);
	for (int n = 0; n < 24; n++) {
		ns = step_ns(c.rows, 210 * MS, 300000);
		chunk_took(&c, c.rows, ns);
	}
	assert_true(c.rows >= 640 && ns <= CHUNK_SHARE * 150 * MS);
	/* one that the machine held up changes little */
	chunk_answers_took(&c, 1500 * MS);
	assert_true(c.answers_ns < 320 * MS);
}

static void limits_are_kept(void **state)
{
	struct chunk fixed = { 128, 8192, 0, 0 }, c = { 128, 200, 45 * MS, 0 };

	(void)state;
	chunk_took(&fixed, 128, 1000 * MS);
	assert_int_equal(fixed.rows, 128);
	chunk_took(&c, 128, MS);
	assert_int_equal(c.rows, 192);
	chunk_took(&c, 192, 0);
	assert_int_equal(c.rows, 192);
	chunk_took(&c, 192, UINT64_MAX);
	assert_int_equal(c.rows, 64);
	chunk_took(&c, 64, 1);	/* under a nanosecond a row */
	assert_int_equal(c.rows, 128);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_become_what_the_pause_permits),
		cmocka_unit_test(one_slow_step_is_enough_to_shrink),
		cmocka_unit_test(ends_of_prompts_say_nothing),
		cmocka_unit_test(slow_answers_do_not_starve_prompts),
		cmocka_unit_test(limits_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
