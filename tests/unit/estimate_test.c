/* estimate_test.c - claims about daemon/estimate.h: what is believed of a program's words.  The rest is
 * shown with real processes (tests/box/lifecycle.py). */
#include <errno.h>

#include "daemon/estimate.h"
#include "tests/unit/unit.h"

TEST(the_total_is_found)
{
	uint64_t x = 0;

	OK(estimate_parse("weights\t1\nkv\t2\nstates\t3\nworkspace\t4\ntotal\t10\n", &x));
	EQ(x, 10);
	OK(estimate_parse("total\t18446744073709551615\nmore\t1\n", &x));
	EQ(x, UINT64_MAX);
}

TEST(what_is_no_total_is_refused)
{
	static const char *const texts[] = {
		"", "total", "total\t", "total\t\n", "total\t5", "total\t0\n", "total\t-5\n", "total\t+5\n",
		"total\t 5\n", "total\t0x10\n", "total\t5 MB\n", "total 5\n", "subtotal\t5\n",
		"total\t18446744073709551616\n", "weights\t5\n",
	};
	uint64_t x = 7;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		EQ(estimate_parse(texts[i], &x), -EINVAL);
	EQ(x, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_total_is_found),
		cmocka_unit_test(what_is_no_total_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
