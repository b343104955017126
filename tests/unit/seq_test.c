/* seq_test.c - claims about worker/seq.h: what a sequence's next run is. */
#include <errno.h>

#include "tests/unit/unit.h"
#include "worker/seq.h"

static struct seq *make(uint32_t n_prompt, uint32_t n_known, uint32_t max_output)
{
	static const uint32_t stop[] = { 999 };
	static uint32_t ids[1000];
	struct seq_spec spec = { .id = 1, .prompt = ids, .n_prompt = n_prompt,
				 .known = ids + 500, .n_known = n_known, .max_output = max_output,
				 .sampling = { .temperature = 1 }, .stop = stop, .n_stop = 1 };
	struct seq *s;

	for (uint32_t i = 0; i < 1000; i++)
		ids[i] = i;
	OK(seq_new(&spec, &s));
	return s;
}

static struct plan_run step(struct seq *s, uint32_t max_rows)
{
	struct plan_run r = { 0 };

	if (seq_next_run(s, max_rows, 4, &r))
		seq_submitted(s, &r);
	return r;
}

TEST(only_the_drawn_edges_are_legal)
{
	static const char legal[SEQ_N_STATES][SEQ_N_STATES] = {
		/* to: queued prefill replay decode done */
		[SEQ_QUEUED] = { 0, 1, 0, 0, 1 },  [SEQ_PREFILL] = { 1, 0, 1, 1, 1 },
		[SEQ_REPLAY] = { 1, 0, 0, 1, 1 },  [SEQ_DECODE] = { 1, 0, 0, 0, 1 },
		[SEQ_DONE] = { 0, 0, 0, 0, 0 },
	};

	for (unsigned a = 0; a < SEQ_N_STATES; a++)
		for (unsigned b = 0; b < SEQ_N_STATES; b++)
			EQ(seq_may_go(a, b), legal[a][b]);
}

TEST(a_prompt_is_cut_on_the_grid_and_samples_at_its_end)
{
	struct seq *s = make(150, 0, 10);
	struct plan_run r;

	seq_go(s, SEQ_PREFILL);
	r = step(s, 100);
	EQ(r.kind, ROW_PREFILL);
	EQ(r.n, 64);
	EQ(r.sample, false);
	r = step(s, 63);	/* less than the grid: nothing */
	EQ(r.n, 0);
	r = step(s, 100);
	EQ(r.pos, 64);
	EQ(r.n, 86);		/* the end of the prompt may leave the grid */
	EQ(r.n_blocks, 3);
	EQ(r.sample, true);
	EQ(s->state, SEQ_DECODE);
	EQ(s->n_flying, 1);
	seq_free(s);
}

TEST(decode_goes_on_before_the_sample_is_known)
{
	struct seq *s = make(10, 0, 3);
	struct plan_run r;

	seq_go(s, SEQ_PREFILL);
	step(s, 64);
	r = step(s, 64);
	EQ(r.kind, ROW_DECODE);
	EQ(r.input, IN_LAST_SAMPLE);
	EQ(r.pos, 10);
	EQ(s->n_tokens, 10);
	EQ(seq_sampled(s, 7), SEQ_END_NOT_YET);
	r = step(s, 64);
	EQ(r.pos, 11);
	r = step(s, 64);	/* the third and last sample is in flight */
	EQ(r.n, 0);
	EQ(seq_sampled(s, 8), SEQ_END_NOT_YET);
	EQ(seq_sampled(s, 9), SEQ_END_LENGTH);
	EQ(s->tokens[12], 9);
	seq_free(s);
}

TEST(a_stop_id_ends_it_even_at_the_limit)
{
	struct seq *s = make(10, 0, 1);

	seq_go(s, SEQ_PREFILL);
	step(s, 64);
	EQ(seq_sampled(s, 999), SEQ_END_STOP);
	seq_free(s);
}

TEST(known_output_is_replayed_counted_and_samples_at_its_end)
{
	struct seq *s = make(70, 6, 20);
	struct plan_run r;

	seq_go(s, SEQ_PREFILL);
	r = step(s, 128);
	EQ(r.n, 70);
	EQ(r.sample, false);	/* what it would sample is known */
	EQ(s->state, SEQ_REPLAY);
	r = step(s, 128);
	EQ(r.kind, ROW_REPLAY);
	EQ(r.n, 4);
	EQ(r.tokens[0], 500);
	EQ(r.count, true);
	EQ(r.sample, false);
	r = step(s, 128);
	EQ(r.n, 2);
	EQ(r.pos, 74);
	EQ(r.sample, true);
	EQ(s->state, SEQ_DECODE);
	EQ(seq_n_output(s), 6);
	seq_free(s);
}

TEST(rewound_it_starts_over_and_replays_what_it_knows)
{
	struct seq *s = make(10, 0, 20);
	struct plan_run r;

	seq_go(s, SEQ_PREFILL);
	step(s, 64);
	step(s, 64);
	seq_sampled(s, 5);	/* one sample still flies: it will be sampled again */
	seq_rewind(s);
	EQ(s->state, SEQ_QUEUED);
	seq_go(s, SEQ_PREFILL);
	r = step(s, 64);
	EQ(r.pos, 0);
	EQ(r.sample, false);
	r = step(s, 64);
	EQ(r.kind, ROW_REPLAY);
	EQ(r.n, 1);
	EQ(r.tokens[0], 5);
	EQ(r.sample, true);
	seq_free(s);
}

TEST(a_paused_sequence_has_no_next_run)
{
	struct seq *s = make(10, 0, 20);

	seq_go(s, SEQ_PREFILL);
	s->paused = true;
	EQ(step(s, 64).n, 0);
	s->paused = false;
	EQ(step(s, 64).n, 10);
	seq_free(s);
}

TEST(a_spec_without_prompt_or_without_room_is_refused)
{
	uint32_t ids[4] = { 0 };
	struct seq_spec spec = { .prompt = ids, .n_prompt = 0, .max_output = 1 };
	struct seq *s;

	EQ(seq_new(&spec, &s), -EINVAL);
	spec.n_prompt = 4;
	spec.known = ids;
	spec.n_known = 1;	/* as much as it may have */
	EQ(seq_new(&spec, &s), -EINVAL);
	spec.max_output = UINT32_MAX;
	EQ(seq_new(&spec, &s), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_drawn_edges_are_legal),
		cmocka_unit_test(a_prompt_is_cut_on_the_grid_and_samples_at_its_end),
		cmocka_unit_test(decode_goes_on_before_the_sample_is_known),
		cmocka_unit_test(a_stop_id_ends_it_even_at_the_limit),
		cmocka_unit_test(known_output_is_replayed_counted_and_samples_at_its_end),
		cmocka_unit_test(rewound_it_starts_over_and_replays_what_it_knows),
		cmocka_unit_test(a_paused_sequence_has_no_next_run),
		cmocka_unit_test(a_spec_without_prompt_or_without_room_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
