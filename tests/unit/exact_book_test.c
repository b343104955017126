/* exact_book_test.c - the book that `hearth-bench exact` judges by finds what differs, and says
 * where. */
#include <errno.h>
#include <string.h>

#include "bench/exact_book.h"
#include "bench/random_request.h"
#include "tests/unit/unit.h"

static uint32_t tokens[8] = { 1, 2, 3, 4, 5 };
static const struct seq answer = { .id = 2, .tokens = tokens, .n_prompt = 3, .n_tokens = 5 };

static void step(struct exact_book *b, enum row_kind kind, uint32_t pos, uint32_t n,
		 struct step_digest d)
{
	const struct run_result result = { .digest = d };
	const struct sched_run run = { kind, pos, n, &result };

	exact_book_step(b, &answer, &run);
}

/* A prompt of three and two decode steps, digests as given for the last. */
static void play(struct exact_book *b, struct step_digest last)
{
	step(b, ROW_PREFILL, 0, 3, (struct step_digest){ 1, 2, 3, 4 });
	step(b, ROW_DECODE, 3, 1, (struct step_digest){ 5, 6, 7, 8 });
	step(b, ROW_DECODE, 4, 1, last);
	exact_book_answer(b, &answer, SEQ_END_LENGTH);
}

static const struct step_digest last = { 9, 10, 11, 12 };

static void written(struct exact_book *b)
{
	OK(exact_book_new(4, 7, b));
	play(b, last);
	exact_book_compare(b);
}

TEST(the_same_is_the_same)
{
	struct exact_book b;

	written(&b);
	play(&b, last);
	EQ(b.n_compared, 3);
	EQ(b.n_wrong, 0);
	exact_book_done(&b);
}

TEST(every_part_of_a_digest_counts)
{
	static const struct {
		struct step_digest d;
		const char *what;
	} bad[] = {
		{ { 0, 10, 11, 12 }, "hidden" }, { { 9, 0, 11, 12 }, "logits" },
		{ { 9, 10, 0, 12 }, "keys or values" }, { { 9, 10, 11, 0 }, "recurrent" },
	};

	for (int i = 0; i < 4; i++) {
		struct exact_book b;

		written(&b);
		play(&b, bad[i].d);
		EQ(b.n_wrong, 1);
		assert_non_null(strstr(b.first_wrong, bad[i].what));
		assert_non_null(strstr(b.first_wrong, "request 2, position 5"));
		exact_book_done(&b);
	}
}

TEST(other_cuts_other_kernels_other_answers)
{
	struct exact_book b;

	written(&b);
	/* replayed two a step: the same end, other keys and values in the step */
	step(&b, ROW_REPLAY, 3, 2, (struct step_digest){ 9, 10, 99, 12 });
	EQ(b.n_wrong, 0);
	step(&b, ROW_PREFILL, 0, 5, last);
	EQ(b.n_wrong, 1);
	assert_non_null(strstr(b.first_wrong, "these kernels"));
	tokens[4] = 6;
	exact_book_answer(&b, &answer, SEQ_END_LENGTH);
	tokens[4] = 5;
	EQ(b.n_wrong, 2);
	exact_book_answer(&b, &answer, SEQ_END_NO_NUMBER);
	EQ(b.n_wrong, 3);
	exact_book_compare(&b);
	EQ(b.n_wrong, 0);
	exact_book_done(&b);
}

TEST(a_request_is_a_function_of_its_number)
{
	const struct random_kind k = {
		.seed = 5, .n_ids = 100, .most_prompt = 130, .least_output = 2, .most_output = 9
	};
	struct seq *a, *b;
	uint32_t kinds = 0, edges = 0;

	for (uint32_t i = 0; i < 200; i++) {
		OK(random_request(&k, i, i, &a));
		OK(random_request(&k, i, 1000 + i, &b));
		EQ(a->n_prompt, b->n_prompt);
		EQ(a->max_output, b->max_output);
		assert_true(a->n_prompt >= 1 && a->n_prompt <= 130 && a->max_output >= 2 &&
			    a->max_output <= 9);
		assert_memory_equal(a->tokens, b->tokens, a->n_prompt * sizeof(uint32_t));
		for (uint32_t t = 0; t < a->n_prompt; t++)
			assert_true(a->tokens[t] < 100);
		kinds |= 1u << (a->sampling.temperature > 0) << 2 * (a->sampling.n_bias > 0);
		edges += a->n_prompt % STEP_GRID < 2 || a->n_prompt % STEP_GRID == STEP_GRID - 1;
		seq_free(a);
		seq_free(b);
	}
	assert_true(kinds == (1 | 2 | 8) && edges > 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_is_the_same),
		cmocka_unit_test(every_part_of_a_digest_counts),
		cmocka_unit_test(other_cuts_other_kernels_other_answers),
		cmocka_unit_test(a_request_is_a_function_of_its_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
