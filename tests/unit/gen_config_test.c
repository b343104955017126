/* gen_config_test.c - claims about worker/gen_config.h. */
#include <string.h>

#include "tests/unit/unit.h"
#include "worker/gen_config.h"

static int read(const char *json, struct gen_config *c, struct err *e)
{
	return gen_config_parse(json, strlen(json), c, e);
}

TEST(what_a_model_says_is_taken)
{
	struct gen_config c;

	OK(read("{\"eos_token_id\": [5, 7], \"temperature\": 0.6, \"top_k\": 20, \"top_p\": 0.95,"
		"\"do_sample\": true, \"transformers_version\": \"5\"}", &c, NULL));
	EQ(c.n_eos, 2);
	EQ(c.eos[1], 7);
	EQ(c.sampling.top_k, 20);
	assert_true(c.sampling.temperature == 0.6f && c.sampling.top_p == 0.95f);
	assert_true(c.sampling.repetition == 1 && c.sampling.min_p == 0);
}

TEST(what_it_does_not_say_is_neutral)
{
	struct gen_config c;

	OK(read("{\"eos_token_id\": 3, \"top_k\": -1}", &c, NULL));
	EQ(c.n_eos, 1);
	EQ(c.sampling.top_k, 0);
	assert_true(c.sampling.temperature == 1 && c.sampling.top_p == 1);
	OK(gen_config_open("/nowhere/at/all", &c, NULL));
	EQ(c.n_eos, 0);
}

TEST(do_sample_false_is_greedy)
{
	struct gen_config c;

	OK(read("{\"do_sample\": false, \"temperature\": 0.7}", &c, NULL));
	assert_true(c.sampling.temperature == 0);
}

TEST(a_wrong_value_is_named)
{
	const char *const bad[][2] = {
		{ "{\"temperature\": \"hot\"}", "temperature" },
		{ "{\"temperature\": -1}", "temperature" },
		{ "{\"top_p\": 0}", "top_p" },
		{ "{\"top_k\": 1.5}", "top_k" },
		{ "{\"eos_token_id\": [1, -2]}", "eos_token_id" },
		{ "{\"eos_token_id\": {}}", "eos_token_id" },
		{ "[]", "object" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct gen_config c;
		struct err e = { 0 };

		EQ(read(bad[i][0], &c, &e), -EINVAL);
		assert_non_null(strstr(e.text, bad[i][1]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_model_says_is_taken),
		cmocka_unit_test(what_it_does_not_say_is_neutral),
		cmocka_unit_test(do_sample_false_is_greedy),
		cmocka_unit_test(a_wrong_value_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
