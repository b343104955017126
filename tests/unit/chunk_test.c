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
		struct chunk c = { .rows = 128, .most = 8192, .pause_ns = 45 * MS };
		const uint64_t fit = (45 * MS - of[i].base) / of[i].each;
		uint64_t ns = 0;

		for (int n = 0; n < 24; n++) {
			ns = step_ns(c.rows, of[i].base, of[i].each);
			chunk_took(&c, chunk_work(0, c.rows), ns);
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
	struct chunk c = { .rows = 2048, .most = 8192, .pause_ns = 45 * MS };

	(void)state;
	chunk_took(&c, chunk_work(0, 2048), 180 * MS);
	assert_int_equal(c.rows, 512);
	chunk_took(&c, chunk_work(0, 512), 1);	/* and none to grow at once */
	assert_int_equal(c.rows, 1024);
}

static void ends_of_prompts_say_nothing(void **state)
{
	struct chunk c = { .rows = 2048, .most = 8192, .pause_ns = 45 * MS };

	(void)state;
	chunk_took(&c, chunk_work(0, 64), 18 * MS);
	chunk_took(&c, chunk_work(0, 63), 100 * MS);
	chunk_took(&c, chunk_work(0, 0), 100 * MS);
	assert_int_equal(c.rows, 2048);
	chunk_took(&c, chunk_work(0, 1024), 90 * MS);	/* but that is too slow already */
	assert_int_equal(c.rows, 512);
}

/* 150 ms for the answers alone, 60 for any prompt beside them, 0.3 for a row of it. */
static void slow_answers_do_not_starve_prompts(void **state)
{
	struct chunk c = { .rows = 128, .most = 8192, .pause_ns = 45 * MS };
	uint64_t ns = 0;

	(void)state;
	for (int n = 0; n < 8; n++)
		chunk_answers_took(&c, 150 * MS);
	for (int n = 0; n < 24; n++) {
		ns = step_ns(c.rows, 210 * MS, 300000);
		chunk_took(&c, chunk_work(0, c.rows), ns);
	}
	assert_true(c.rows >= 640 && ns <= CHUNK_SHARE * 150 * MS);
	/* one that the machine held up changes little */
	chunk_answers_took(&c, 1500 * MS);
	assert_true(c.answers_ns < 320 * MS);
}

static void limits_are_kept(void **state)
{
	struct chunk fixed = { .rows = 128, .most = 8192, .pause_ns = 0 }, c = { .rows = 128, .most = 200, .pause_ns = 45 * MS };

	(void)state;
	chunk_took(&fixed, chunk_work(0, 128), 1000 * MS);
	assert_int_equal(fixed.rows, 128);
	chunk_took(&c, chunk_work(0, 128), MS);
	assert_int_equal(c.rows, 192);
	chunk_took(&c, chunk_work(0, 192), 0);
	assert_int_equal(c.rows, 192);
	chunk_took(&c, chunk_work(0, 192), UINT64_MAX);
	assert_int_equal(c.rows, 64);
	chunk_took(&c, chunk_work(0, 64), 1);	/* under a nanosecond a row */
	assert_int_equal(c.rows, 128);
}

/* A device of 40 layers that takes `base` for answers, `once` for any prompt beside them, `each` for a
 * row of it and `keys` for a million keys; parts differ by a tenth. */
struct device_times {
	uint64_t base, once, each, keys;
};

static uint64_t whole_ns(const struct device_times *t, struct chunk_work w)
{
	return t->once + w.rows * t->each + w.keys / 1000 * t->keys / 1000;
}

/* Takes a prompt of `left` rows; answers the time it took, and the longest step's. */
static uint64_t take_prompt(struct chunk *c, const struct device_times *t, uint32_t left, uint64_t *ret_most)
{
	uint64_t sum = 0;

	for (uint32_t pos = 0, rows; left; left -= rows, pos += rows) {
		const uint32_t n_parts = chunk_parts(c, pos, left, &rows);

		if (rows > left)
			rows = left;
		assert_true(n_parts >= 1 && n_parts <= CHUNK_PARTS && rows && rows <= c->most);
		assert_true(rows == left || rows % STEP_GRID == 0);
		const struct chunk_work work = chunk_work(pos, rows);
		const uint64_t whole = whole_ns(t, work);

		for (uint32_t part = 0; part < n_parts; part++) {
			const uint64_t ns = t->base + (n_parts == 1 ? whole :
						       whole / n_parts * (part % 2 ? 95 : 105) / 100);

			if (n_parts > 1)
				chunk_part_took(c, work, part, n_parts, ns);
			else
				chunk_took(c, work, ns);
			*ret_most = ns > *ret_most ? ns : *ret_most;
			sum += ns;
		}
	}
	return sum;
}

/* The same with nobody beside it, in passes of 8,192. */
static uint64_t take_alone(struct chunk *c, const struct device_times *t, uint32_t left)
{
	uint64_t sum = 0;

	for (uint32_t pos = 0, rows; left; left -= rows, pos += rows) {
		rows = left < 8192 ? left : 8192;
		const uint64_t ns = whole_ns(t, chunk_work(pos, rows));

		if (c)
			chunk_alone_took(c, chunk_work(pos, rows), ns);
		sum += ns;
	}
	return sum;
}

static struct chunk parts_of(const struct device_times *t)
{
	struct chunk c = { .rows = 128, .most = 8192, .pause_ns = 45 * MS, .most_parts = 40 };
	uint64_t most = 0;

	for (int i = 0; i < 8; i++)
		chunk_answers_took(&c, t->base);
	take_prompt(&c, t, 60000, &most);	/* it learns: of long prompts, */
	for (int i = 0; i < 20; i++)
		take_prompt(&c, t, 2000, &most);	/* and of short ones */
	return c;
}

/* As measured beside 16 answers on an H200; a GB10 as predicted: its weights alone take 120 ms. */
static const struct device_times h200 = { 5900000, 10 * MS, 13600, 320000 },
				 gb10 = { 12 * MS, 120 * MS, 200000, 2 * MS };

static void parts_keep_the_pause_and_most_of_the_speed(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		const struct device_times *t = i ? &gb10 : &h200;
		struct chunk c = parts_of(t);
		uint64_t most = 0, ns = take_prompt(&c, t, 32768, &most);

		assert_true(most <= 46 * MS);
		assert_true(take_alone(NULL, t, 32768) * 100 / ns >= (i ? 50 : 80));
		/* even a short prompt is too long to wait for where reading the weights takes 120 ms */
		uint32_t rows, n_parts = chunk_parts(&c, 0, 40, &rows);
		assert_true(i ? rows == 40 && n_parts >= 4 : n_parts == 1);
	}
}

/* The first prompt beside answers: after the self-test's short one, and after long ones alone. */
static void what_it_saw_alone_is_known(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		struct chunk c = { .rows = 128, .most = 8192, .pause_ns = 45 * MS, .most_parts = 40 };
		uint64_t most = 0, ns;

		if (i)
			take_alone(&c, &h200, i == 1 ? 40 : 32768);
		for (int n = 0; n < 8; n++)
			chunk_answers_took(&c, h200.base);
		ns = take_prompt(&c, &h200, 32768, &most);
		assert_true(most <= 48 * MS);
		assert_true(take_alone(NULL, &h200, 32768) * 100 / ns >= (i == 2 ? 80 : 70));
	}
}

static void a_prompt_that_fits_is_not_taken_in_parts(void **state)
{
	const struct device_times t = { 5300000, 10 * MS, 18700, 0 };
	struct chunk c = parts_of(&t), fixed = { .rows = 128, .most = 8192, .most_parts = 40 },
		     whole = c;
	uint32_t rows;

	(void)state;
	assert_int_equal(chunk_parts(&c, 0, c.rows, &rows), 1);
	assert_true(chunk_parts(&c, 0, 4001, &rows) > 1);
	assert_int_equal(rows, 4001);
	assert_int_equal(chunk_parts(&fixed, 0, 128, &rows), 1);
	assert_int_equal(rows, 128);
	assert_int_equal(chunk_parts(&fixed, 0, 1000, &rows), 8);
	assert_int_equal(rows, 1000);
	assert_int_equal(chunk_parts(&fixed, 0, 8192, &rows), 16);
	assert_int_equal(rows, 2048);
	whole.most_parts = 1;
	assert_int_equal(chunk_parts(&whole, 0, 8192, &rows), 1);
	assert_int_equal(rows, whole.rows);
}

/* One part that the machine held up for a minute does not end parts for good. */
static void parts_come_back_after_an_accident(void **state)
{
	const struct device_times t = { 5300000, 10 * MS, 18700, 0 };
	struct chunk c = parts_of(&t);
	uint64_t most = 0;
	uint32_t rows;

	(void)state;
	chunk_part_took(&c, chunk_work(0, 4096), 2, 3, 60000 * MS);
	chunk_part_took(&c, chunk_work(0, 64), 1, 2, UINT64_MAX);
	take_prompt(&c, &t, 32768, &most);
	assert_true(chunk_parts(&c, 0, 32768, &rows) > 1 && rows >= 4096);
}

/* A model on a CPU: 64 rows take longer than CHUNK_PARTS pauses have room for. */
static void a_slow_box_has_parts_of_the_least_rows(void **state)
{
	const struct device_times t = { 100 * MS, 1100 * MS, 50 * MS, 0 };
	struct chunk c = { .rows = 128, .most = 512, .pause_ns = 45 * MS, .most_parts = 40 };
	uint64_t most = 0;
	uint32_t rows;

	(void)state;
	chunk_answers_took(&c, t.base);
	assert_int_equal(chunk_parts(&c, 0, 3000, &rows), 1);	/* nothing is known of prompts */
	assert_int_equal(rows, 128);
	take_prompt(&c, &t, 128, &most);
	most = 0;
	take_prompt(&c, &t, 3000, &most);
	assert_true(most <= 400 * MS);
	assert_int_equal(chunk_parts(&c, 0, 3000, &rows), CHUNK_PARTS);
	assert_int_equal(rows, STEP_GRID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_become_what_the_pause_permits),
		cmocka_unit_test(one_slow_step_is_enough_to_shrink),
		cmocka_unit_test(ends_of_prompts_say_nothing),
		cmocka_unit_test(slow_answers_do_not_starve_prompts),
		cmocka_unit_test(limits_are_kept),
		cmocka_unit_test(parts_keep_the_pause_and_most_of_the_speed),
		cmocka_unit_test(what_it_saw_alone_is_known),
		cmocka_unit_test(a_prompt_that_fits_is_not_taken_in_parts),
		cmocka_unit_test(parts_come_back_after_an_accident),
		cmocka_unit_test(a_slow_box_has_parts_of_the_least_rows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
