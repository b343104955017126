/* generation_test.c - claims about worker/generation.h, on the tiny model's tokenizer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "tests/unit/unit.h"
#include "worker/generation.h"

static struct tokenizer *tok;

static int open_tokenizer(void **state)
{
	const char *top = getenv("top_srcdir");
	char dir[1024];

	(void)state;
	snprintf(dir, sizeof(dir), "%s/models/tiny", top ? top : ".");
	return tokenizer_open(dir, &tok, NULL);
}

static int close_tokenizer(void **state)
{
	(void)state;
	tok = tokenizer_free(tok);
	return 0;
}

static struct ids encode(const char *text)
{
	struct ids l = IDS_INIT;

	OK(tokenizer_encode(tok, text, strlen(text), NULL, 0, TOK_SPECIAL, &l));
	return l;
}

static struct generation *make(const struct out_options *parse, const char *stop, bool logprobs)
{
	const struct stop_string s = { stop, stop ? strlen(stop) : 0 };
	uint32_t end;
	struct gen_spec spec = { .tokenizer = tok, .parse = parse, .stops = &s,
				 .n_stops = stop != NULL, .stop_ids = &end, .n_stop_ids = 1,
				 .logprobs = logprobs, .call_key = { 1, 2 } };
	struct generation *g;

	OK(tokenizer_find(tok, "<|im_end|>", &end));
	OK(generation_new(&spec, &g, NULL));
	return g;
}

/* Feeds until it ends by itself; how many tokens were fed. */
static size_t feed(struct generation *g, const struct ids *l, int *ret_r)
{
	size_t i = 0;

	*ret_r = 0;
	while (i < l->n && *ret_r == 0) {
		const struct gen_logprob t = { .token = l->p[i++], .logprob = -0.5f };

		*ret_r = generation_push(g, &t);
		assert_true(*ret_r >= 0);
	}
	return i;
}

/* "channel:text|channel:text" of what there is. */
static char *shown(struct generation *g)
{
	static const char names[] = "crba";
	struct gen_out *o = generation_out(g);
	struct buf b = BUF_INIT;

	for (size_t i = 0; i < o->n_pieces; i++)
		buf_printf(&b, "%s%c:%.*s", i ? "|" : "", names[o->pieces[i].channel],
			   (int)o->pieces[i].n, o->text.p + o->pieces[i].from);
	return buf_take(&b, NULL);
}

static void expect(struct generation *g, const char *want)
{
	char *got = shown(g);

	assert_string_equal(got, want);
	free(got);
}

static const char answer[] = "I add them.\n</think>\n\nThe sum is 12 \xc3\xbc.<|im_end|>";

TEST(reasoning_and_content_are_told_apart)
{
	const struct out_options parse = { .thinking = true };
	struct generation *g = make(&parse, NULL, false);
	struct ids l = encode(answer);
	int r;

	EQ(feed(g, &l, &r), l.n);
	EQ(r, 1);		/* the stop id */
	OK(generation_finish(g, false));
	expect(g, "r:I add them.|c:The sum is 12 \xc3\xbc.");
	EQ(generation_counts(g).n_output, l.n);
	assert_true(generation_counts(g).n_reasoning > 0);
	EQ(generation_out(g)->tokens.n, l.n - 1);	/* a stop id is not part of the text */
	generation_free(g);
	ids_done(&l);
}

TEST(a_raw_completion_has_one_channel)
{
	struct generation *g = make(NULL, NULL, false);
	struct ids l = encode("a <think> b");
	int r;

	feed(g, &l, &r);
	OK(generation_finish(g, true));
	expect(g, "c:a <think> b");
	generation_free(g);
	ids_done(&l);
}

TEST(a_stop_string_ends_the_answer_across_tokens)
{
	const struct out_options parse = { .thinking = false };
	struct generation *g = make(&parse, "sum is 1", false);
	struct ids l = encode("The sum is 12 or so");
	int r;

	assert_true(feed(g, &l, &r) < l.n);
	EQ(r, 1);
	OK(generation_finish(g, false));
	expect(g, "c:The ");
	generation_free(g);
	ids_done(&l);
}

TEST(known_tokens_leave_exactly_the_rest_to_say)
{
	const struct out_options parse = { .thinking = true };
	struct ids l = encode(answer);

	for (size_t k = 0; k < l.n; k++) {
		struct generation *all = make(&parse, NULL, false);
		struct generation *rest = make(&parse, NULL, false);
		size_t used;
		char *a, *b;
		int r;

		for (size_t i = 0; i < l.n; i++) {
			const struct gen_logprob t = { .token = l.p[i] };

			if (i == k)
				gen_out_clear(generation_out(all));
			(void)generation_push(all, &t);
		}
		OK(generation_known(rest, l.p, k, &used));
		EQ(used, k);
		for (size_t i = k; i < l.n; i++) {
			const struct gen_logprob t = { .token = l.p[i] };

			r = generation_push(rest, &t);
			assert_true(r >= 0);
		}
		OK(generation_finish(all, false));
		OK(generation_finish(rest, false));
		a = shown(all);
		b = shown(rest);
		assert_string_equal(a, b);
		EQ(generation_counts(all).n_output, generation_counts(rest).n_output);
		EQ(generation_counts(all).n_reasoning, generation_counts(rest).n_reasoning);
		free(a);
		free(b);
		generation_free(all);
		generation_free(rest);
	}
	ids_done(&l);
}

TEST(an_end_among_the_known_tokens_is_found)
{
	struct generation *g = make(NULL, NULL, false);
	struct ids l = encode("done<|im_end|>x");
	size_t used;

	EQ(generation_known(g, l.p, l.n, &used), 1);
	assert_true(used < l.n);
	generation_free(g);
	ids_done(&l);
}

TEST(a_call_has_an_id_that_a_continuation_repeats)
{
	static const char call[] = "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n"
				   "</function>\n</tool_call>";
	static const char tools_text[] =
		"[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]";
	char first[GEN_CALL_ID_BYTES] = "";
	JX_OWNED json_t *tools = NULL;

	OK(jx_load(tools_text, strlen(tools_text), &tools, NULL));
	for (int round = 0; round < 2; round++) {
		const struct out_options parse = { .tools = tools };
		struct generation *g = make(&parse, NULL, false);
		struct ids l = encode(call);
		const struct gen_piece *p;
		int r;

		feed(g, &l, &r);
		OK(generation_finish(g, false));
		expect(g, "b:f|a:{\"a\": \"1\"}");
		EQ(generation_counts(g).n_calls, 1);
		p = &generation_out(g)->pieces[0];
		EQ(strlen(p->call_id), 29);
		assert_true(!strncmp(p->call_id, "call_", 5));
		assert_true(strspn(p->call_id + 5, "0123456789abcdef") == 24);
		if (round)
			assert_string_equal(p->call_id, first);
		memcpy(first, p->call_id, sizeof(first));
		generation_free(g);
		ids_done(&l);
	}
}

TEST(log_probabilities_are_those_of_the_content)
{
	const struct out_options parse = { .thinking = true };
	struct generation *g = make(&parse, NULL, true);
	struct ids l = encode(answer);
	struct gen_out *o = generation_out(g);
	struct buf text = BUF_INIT;
	int r;

	feed(g, &l, &r);
	OK(generation_finish(g, false));
	for (size_t i = 0; i < o->n_logprobs; i++) {
		size_t n;
		const char *p = tokenizer_bytes(tok, o->logprobs[i].token, &n);

		buf_put(&text, p, n);
	}
	assert_string_equal(text.p, "The sum is 12 \xc3\xbc.");
	buf_done(&text);
	generation_free(g);
	ids_done(&l);
}

TEST(log_probabilities_end_before_a_stop_string)
{
	struct generation *g = make(NULL, " or", true);
	struct ids l = encode("The sum is 12 or so");
	struct gen_out *o = generation_out(g);
	struct buf text = BUF_INIT;
	int r;

	feed(g, &l, &r);
	OK(generation_finish(g, false));
	for (size_t i = 0; i < o->n_logprobs; i++) {
		size_t n;
		const char *p = tokenizer_bytes(tok, o->logprobs[i].token, &n);

		buf_put(&text, p, n);
	}
	assert_string_equal(text.p, "The sum is 12");
	buf_done(&text);
	generation_free(g);
	ids_done(&l);
}

TEST(bad_stop_strings_are_refused_in_words)
{
	const struct stop_string s = { "\xff", 1 };
	struct gen_spec spec = { .tokenizer = tok, .stops = &s, .n_stops = 1 };
	struct generation *g;
	struct err e = { 0 };

	EQ(generation_new(&spec, &g, &e), -EINVAL);
	assert_non_null(strstr(e.text, "stop"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reasoning_and_content_are_told_apart),
		cmocka_unit_test(a_raw_completion_has_one_channel),
		cmocka_unit_test(a_stop_string_ends_the_answer_across_tokens),
		cmocka_unit_test(known_tokens_leave_exactly_the_rest_to_say),
		cmocka_unit_test(an_end_among_the_known_tokens_is_found),
		cmocka_unit_test(a_call_has_an_id_that_a_continuation_repeats),
		cmocka_unit_test(log_probabilities_are_those_of_the_content),
		cmocka_unit_test(log_probabilities_end_before_a_stop_string),
		cmocka_unit_test(bad_stop_strings_are_refused_in_words),
	};

	return cmocka_run_group_tests(tests, open_tokenizer, close_tokenizer);
}
