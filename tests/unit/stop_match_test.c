/* stop_match_test.c - claims about worker/stop_match.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"
#include "worker/stop_match.h"

/* All of text in pieces of `step` bytes; the answer is what came out. */
static char *run(const char *const *stops, size_t n, const char *text, size_t step, int *ret_hit)
{
	struct stop_string s[8];
	struct stop_match *m;
	struct buf out = BUF_INIT;
	size_t len = strlen(text);

	for (size_t i = 0; i < n; i++)
		s[i] = (struct stop_string){ stops[i], strlen(stops[i]) };
	OK(stop_match_new(s, n, &m));
	*ret_hit = 0;
	for (size_t i = 0; i < len && !*ret_hit; i += step)
		*ret_hit = stop_match_push(m, text + i, step < len - i ? step : len - i, &out);
	OK(stop_match_finish(m, &out));
	stop_match_free(m);
	return buf_take(&out, NULL);
}

static void expect(const char *const *stops, size_t n, const char *text, const char *want, int hit)
{
	for (size_t step = 1; step <= strlen(text); step++) {
		int got;
		char *out = run(stops, n, text, step, &got);

		assert_string_equal(out, want);
		EQ(got, hit);
		free(out);
	}
}

TEST(the_match_is_not_sent_however_the_text_is_cut)
{
	expect((const char *[]){ "END" }, 1, "one two END three", "one two ", 1);
	expect((const char *[]){ "END" }, 1, "one two EN", "one two EN", 0);
	expect((const char *[]){ "END" }, 1, "EENEND", "EEN", 1);
	expect((const char *[]){ "\xc3\xbc" }, 1, "gr\xc3\xbcn", "gr", 1);
}

TEST(overlapping_beginnings_are_not_lost)
{
	expect((const char *[]){ "aab" }, 1, "aaaab", "aa", 1);
	expect((const char *[]){ "abab", "baba!" }, 2, "xababab", "x", 1);
	expect((const char *[]){ "abcd", "bc" }, 2, "abcd", "a", 1);	/* bc ends first */
}

TEST(of_those_that_end_together_the_longest_is_taken)
{
	expect((const char *[]){ "c", "abc" }, 2, "xabcd", "x", 1);
}

TEST(without_strings_everything_passes_at_once)
{
	struct stop_match *m;
	struct buf out = BUF_INIT;

	OK(stop_match_new(NULL, 0, &m));
	OK(stop_match_push(m, "abc", 3, &out));
	EQ(out.n, 3);
	stop_match_free(m);
	buf_done(&out);
}

TEST(only_what_may_be_a_match_is_held)
{
	const struct stop_string s = { "STOP", 4 };
	struct stop_match *m;
	struct buf out = BUF_INIT;

	OK(stop_match_new(&s, 1, &m));
	OK(stop_match_push(m, "go STO", 6, &out));
	EQ(out.n, 3);
	EQ(stop_match_held(m), 3);
	OK(stop_match_push(m, "L", 1, &out));
	assert_string_equal(out.p, "go STOL");
	EQ(stop_match_push(m, "STOP more", 9, &out), 1);
	EQ(stop_match_push(m, "STOP more", 9, &out), 1);
	assert_string_equal(out.p, "go STOL");
	stop_match_free(m);
	buf_done(&out);
}

TEST(an_unkind_text_is_not_quadratic)
{
	enum { N = 4 << 20 };
	static char text[N], stop[STOP_MAX_BYTES];
	const struct stop_string s = { stop, sizeof(stop) };
	struct stop_match *m;
	struct buf out = BUF_INIT;

	memset(text, 'a', sizeof(text));
	memset(stop, 'a', sizeof(stop));
	stop[sizeof(stop) - 1] = 'b';
	OK(stop_match_new(&s, 1, &m));
	OK(stop_match_push(m, text, N, &out));
	EQ(out.n, N - (STOP_MAX_BYTES - 1));
	stop_match_free(m);
	buf_done(&out);
}

TEST(empty_too_long_and_broken_strings_are_refused)
{
	static char big[STOP_MAX_BYTES + 1];
	const struct stop_string bad[] = { { "", 0 }, { big, sizeof(big) }, { "\xbc", 1 } };
	struct stop_match *m;

	memset(big, 'x', sizeof(big));
	for (int i = 0; i < 3; i++)
		EQ(stop_match_new(&bad[i], 1, &m), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_match_is_not_sent_however_the_text_is_cut),
		cmocka_unit_test(overlapping_beginnings_are_not_lost),
		cmocka_unit_test(of_those_that_end_together_the_longest_is_taken),
		cmocka_unit_test(without_strings_everything_passes_at_once),
		cmocka_unit_test(only_what_may_be_a_match_is_held),
		cmocka_unit_test(an_unkind_text_is_not_quadratic),
		cmocka_unit_test(empty_too_long_and_broken_strings_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
