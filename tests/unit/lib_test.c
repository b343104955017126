/* lib_test.c - claims about lib/. */
#include "tests/unit/unit.h"

#include <math.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/expo.h"
#include "lib/err.h"
#include "lib/json.h"
#include "lib/own.h"
#include "lib/utf8.h"

TEST(a_cut_error_text_looks_cut)
{
	struct err e;
	char big[1000];

	memset(big, 'x', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	EQ(err_set(&e, -EINVAL, "%s", big), -EINVAL);
	assert_string_equal(e.text + strlen(e.text) - 4, "x...");
	EQ(err_set(&e, -ENOENT, "gone"), -ENOENT);
	EQ(err_prefix(&e, -ENOENT, "a/%d", 1), -ENOENT);
	assert_string_equal(e.text, "a/1: gone");
}

TEST(buf_keeps_its_bytes_and_its_terminator)
{
	struct buf b = BUF_INIT;
	size_t n;
	char *p;

	OK(buf_put(&b, "a\0b", 3));
	OK(buf_printf(&b, "%d", 42));
	EQ(b.n, 5);
	assert_memory_equal(b.p, "a\0b42", 6);
	buf_shift(&b, 3);
	assert_string_equal(b.p, "42");
	EQ(buf_reserve(&b, SIZE_MAX / 2), -ENOMEM);
	assert_false(buf_ok(&b));
	b.failed = false;
	p = buf_take(&b, &n);
	EQ(n, 2);
	assert_string_equal(p, "42");
	free(p);
	p = buf_take(&b, &n);
	assert_string_equal(p, "");
	free(p);
}

static void same(const char *in, enum jx_style style, const char *want)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	JX_OWNED json_t *v = NULL;

	OK(jx_load(in, strlen(in), &v, NULL));
	OK(jx_put(&b, v, style));
	assert_string_equal(b.p, want);
}

TEST(numbers_keep_their_spelling)
{
	same("[123456789012345678901234567890, -0, 1e2, 1.10]", JX_COMPACT,
	     "[123456789012345678901234567890,-0,1e2,1.10]");
	/* what CPython 3.11 prints for json.dumps(json.loads(x)) */
	same("[123456789012345678901234567890, -0, -0.0, 1e2, 1.10, 1e16, 1.5e-5, 0.0001]",
	     JX_PYTHON,
	     "[123456789012345678901234567890, 0, -0.0, 100.0, 1.1, 1e+16, 1.5e-05, 0.0001]");
	same("[1e999, -1e999, 5e-324, 1e22, 123456789.125, 0.1]", JX_PYTHON,
	     "[Infinity, -Infinity, 5e-324, 1e+22, 123456789.125, 0.1]");
}

TEST(strings_are_never_taken_for_numbers)
{
	same("{\"a\":\"\\u00011\",\"b\":\"\\u0001\\u0001\",\"c\":1,\"\\u0001\":\"\\u0001\"}",
	     JX_COMPACT,
	     "{\"a\":\"\\u00011\",\"b\":\"\\u0001\\u0001\",\"c\":1,\"\\u0001\":\"\\u0001\"}");
	same("[\"1\", \"\", \"\\u0000\\\\\\\"\", \"\\u00e9\"]", JX_PYTHON,
	     "[\"1\", \"\", \"\\u0000\\\\\\\"\", \"\xc3\xa9\"]");
}

TEST(what_is_not_json_is_refused)
{
	static const char *const bad[] = {
		"", "[1", "01", "1.", "-", "+1", "[1e]", "1e+", ".5", "\"\\ud800\"", "\"\xff\"",
		"{\"a\":1", "nul", "[1,]", "\"abc", "{1:2}", "1 2", "\"\\", "[-]", "0x10", "1_0",
	};
	json_t *v = NULL;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		EQ(jx_load(bad[i], strlen(bad[i]), &v, NULL), -EINVAL);
		assert_null(v);
	}
}

TEST(numbers_are_read_only_when_they_fit)
{
	const char *text = "[9223372036854775807, 9223372036854775808, 1e400, 2.5, \"7\"]";
	JX_OWNED json_t *v = NULL;
	double x;
	int64_t i;

	OK(jx_load(text, strlen(text), &v, NULL));
	OK(jx_int64(json_array_get(v, 0), &i));
	assert_true(i == INT64_MAX);
	EQ(jx_int64(json_array_get(v, 1), &i), -ERANGE);
	EQ(jx_double(json_array_get(v, 2), &x), -ERANGE);
	EQ(jx_int64(json_array_get(v, 3), &i), -EINVAL);
	EQ(jx_double(json_array_get(v, 4), &x), -EINVAL);
}

TEST(utf8_follows_the_standard)
{
	bool more;
	uint32_t cp;
	char out[4];

	EQ(utf8_len("\xed\xa0\x80", 3), 0);	/* surrogate */
	EQ(utf8_len("\xc0\x80", 2), 0);		/* overlong */
	EQ(utf8_len("\xf4\x90\x80\x80", 4), 0);	/* above 10FFFF */
	EQ(utf8_get("\xf0\x9f\x98\x80", 4, &cp), 4);
	EQ(cp, 0x1f600);
	EQ(utf8_put(cp, out), 4);
	assert_memory_equal(out, "\xf0\x9f\x98\x80", 4);
	EQ(utf8_put(0x20ac, out), 3);
	assert_memory_equal(out, "\xe2\x82\xac", 3);
	EQ(utf8_put(0xe9, out), 2);
	assert_memory_equal(out, "\xc3\xa9", 2);
	EQ(utf8_bad_prefix("\xf0\x9f\x28", 3, &more), 2);
	assert_false(more);
	EQ(utf8_bad_prefix("\xf0\x9f", 2, &more), 2);
	assert_true(more);
	EQ(utf8_bad_prefix("\x80", 1, &more), 1);
	assert_false(more);
}

TEST(samples_are_what_each_form_of_exposition_wants)
{
	static const struct expo_row count = { "a_things_total", EXPO_COUNTER, "things" };
	static const struct expo_row info = { "a_build_info", EXPO_INFO, "build" };
	struct buf b = BUF_INIT;
	struct expo x = { .out = &b, .open = true, .labels = { "box", "b1" } };

	expo_begin(&x, &count);
	/* 2^53 - 1, to the last digit */
	expo_put(&x, 9007199254740991.0, "name", "a\"b\\c\nd", NULL);
	expo_begin(&x, &info);
	expo_put(&x, 1, NULL);
	EQ(expo_end(&x), 0);
	assert_string_equal(
		b.p, "# HELP a_things things\n# TYPE a_things counter\n"
		     "a_things_total{box=\"b1\",name=\"a\\\"b\\\\c\\nd\"} 9007199254740991\n"
		     "# HELP a_build build\n# TYPE a_build info\na_build_info{box=\"b1\"} 1\n"
		     "# EOF\n");
	buf_clear(&b);
	x = (struct expo){ .out = &b };
	expo_begin(&x, &count);
	expo_put(&x, 0.5, NULL);
	expo_begin(&x, &info);
	EQ(expo_end(&x), 0);
	assert_string_equal(
		b.p, "# HELP a_things_total things\n# TYPE a_things_total counter\n"
		     "a_things_total 0.5\n# HELP a_build_info build\n# TYPE a_build_info gauge\n");
	assert_true(expo_wants_open("text/html, application/openmetrics-text; version=1.0.0"));
	assert_false(expo_wants_open("text/plain"));
	assert_false(expo_wants_open(NULL));
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cut_error_text_looks_cut),
		cmocka_unit_test(buf_keeps_its_bytes_and_its_terminator),
		cmocka_unit_test(numbers_keep_their_spelling),
		cmocka_unit_test(strings_are_never_taken_for_numbers),
		cmocka_unit_test(what_is_not_json_is_refused),
		cmocka_unit_test(numbers_are_read_only_when_they_fit),
		cmocka_unit_test(utf8_follows_the_standard),
		cmocka_unit_test(samples_are_what_each_form_of_exposition_wants),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
