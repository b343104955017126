/* request_test.c - claims about worker/text/request.h. */
#include "tests/unit/unit.h"

#include <string.h>

#include "lib/own.h"
#include "worker/text/request.h"

static int normalise(const char *messages, const struct request_options *o, json_t **ret,
		     struct request_notes *notes, struct err *e)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	JX_OWNED json_t *request = NULL;

	buf_printf(&b, *messages == '[' ? "{\"messages\":%s}" : "%s", messages);
	OK(jx_load(b.p, b.n, &request, e));
	return request_normalise(request, o, ret, notes, e);
}

static void becomes(const char *messages, const char *want)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	JX_OWNED json_t *out = NULL;
	struct err e = { 0 };

	if (normalise(messages, NULL, &out, NULL, &e) < 0)
		fail_msg("%s: %s", messages, e.text);
	OK(jx_put(&b, json_object_get(out, "messages"), JX_COMPACT));
	assert_string_equal(b.p, want);
}

static void refused(const char *messages, const char *want)
{
	JX_OWNED json_t *out = NULL;
	struct err e = { 0 };

	EQ(normalise(messages, NULL, &out, NULL, &e), -EINVAL);
	assert_string_equal(e.text, want);
	assert_null(out);
}

#define S(text) "{\"role\":\"system\",\"content\":\"" text "\"}"
#define U(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define CALL(arguments)                                                                     \
	"[" U("q") ",{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":"           \
	"\"1\",\"function\":{\"name\":\"f\"" arguments "}}]}]"

TEST(developer_is_system)
{
	becomes("[{\"role\":\"developer\",\"content\":\"x\"}," U("q") "]",
		"[" S("x") "," U("q") "]");
}

TEST(reasoning_is_reasoning_content)
{
	becomes("[{\"role\":\"assistant\",\"content\":\"a\",\"reasoning\":\"r\"}]",
		"[{\"role\":\"assistant\",\"content\":\"a\",\"reasoning\":\"r\",\"reasoning_content\":\"r\"}]");
	becomes("[{\"role\":\"assistant\",\"reasoning\":\"r\",\"reasoning_content\":\"c\"}]",
		"[{\"role\":\"assistant\",\"reasoning\":\"r\",\"reasoning_content\":\"c\"}]");
}

TEST(arguments_become_an_object)
{
	becomes(CALL(",\"arguments\":\"{\\\"a\\\":1e2,\\\"b\\\":123456789012345678901}\""),
		CALL(",\"arguments\":{\"a\":1e2,\"b\":123456789012345678901}"));
	becomes(CALL(",\"arguments\":{\"a\":1}"), CALL(",\"arguments\":{\"a\":1}"));
	becomes(CALL(",\"arguments\":\" \""), CALL(",\"arguments\":{}"));
	becomes(CALL(",\"arguments\":null"), CALL(",\"arguments\":{}"));
	becomes(CALL(",\"arguments\":\"null\""), CALL(",\"arguments\":{}"));
	becomes(CALL(""), CALL(",\"arguments\":{}"));
	becomes(CALL(",\"arguments\":\"\""), CALL(",\"arguments\":{}"));
	becomes(CALL(",\"arguments\":\"\\n{}\\t\""), CALL(",\"arguments\":{}"));
}

#define BROKEN(value) CALL(",\"arguments\":{\"invalid_arguments\":" value "}")

/* A client sends back for ever what a model wrote once. */
TEST(arguments_that_are_no_object_are_shown_and_not_refused)
{
	/* no JSON: cut off, two values, Python, an end too many, a lone surrogate, U+0000 in a key */
	static const char *const texts[] = {
		"{\\\"path\\\": \\\"a.c\\\", \\\"text\\\": \\\"int ma", "{", "{\\\"a\\\":1}{}",
		"{'a': 1}", "{\\\"a\\\":1}}", " ls -l ", "{\\\"a\\\":\\\"\\\\ud800\\\"}",
		"{\\\"\\\\u0000\\\":1}", "<|im_end|>", "\\u0001", "\\u0000",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char in[512], want[512];

		snprintf(in, sizeof(in), CALL(",\"arguments\":\"%s\""), texts[i]);
		snprintf(want, sizeof(want), BROKEN("\"%s\""), texts[i]);
		becomes(in, want);
	}
	/* JSON that is no object, in a string or not: the value */
	becomes(CALL(",\"arguments\":\"[1, {\\\"a\\\": 1e2}]\""), BROKEN("[1,{\"a\":1e2}]"));
	becomes(CALL(",\"arguments\":[1]"), BROKEN("[1]"));
	becomes(CALL(",\"arguments\":\"5\""), BROKEN("5"));
	becomes(CALL(",\"arguments\":5"), BROKEN("5"));
	becomes(CALL(",\"arguments\":\"false\""), BROKEN("false"));
	becomes(CALL(",\"arguments\":\"\\\"Paris\\\"\""), BROKEN("\"Paris\""));
	/* an object that was written as JSON twice is meant; a third time nobody does */
	becomes(CALL(",\"arguments\":\"\\\"{\\\\\\\"a\\\\\\\": 1}\\\"\""),
		CALL(",\"arguments\":{\"a\":1}"));
	becomes(CALL(",\"arguments\":\"\\\"[1]\\\"\""), BROKEN("\"[1]\""));
	/* what a model once imitated from this is an object like any other */
	becomes(CALL(",\"arguments\":\"{\\\"invalid_arguments\\\": 5}\""), BROKEN("5"));
}

TEST(system_messages_at_the_start_are_joined_by_a_blank_line)
{
	becomes("[" S("a") "," S("b") ",{\"role\":\"developer\",\"content\":\"c\"}," U("q") "]",
		"[" S("a\\n\\nb\\n\\nc") "," U("q") "]");
	becomes("[{\"role\":\"system\",\"content\":null}," S("b") "]", "[" S("b") "]");
	becomes("[" S("") "," S("b") "]", "[" S("b") "]");
	becomes("[" S("a") ",{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"b\"}]}]",
		"[{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\","
		"\"text\":\"\\n\\n\"},{\"type\":\"text\",\"text\":\"b\"}]}]");
}

TEST(a_late_system_message_is_a_users_or_refused)
{
	static const char late[] = "[" S("a") "," U("q") "," S("b") "," S("c") "]";
	const struct request_options strict = { .refuse_late_system = true };
	struct request_notes notes = { 0 };
	JX_OWNED json_t *out = NULL;
	struct err e = { 0 };

	becomes(late, "[" S("a") "," U("q") "," U("b") "," U("c") "]");
	OK(normalise(late, NULL, &out, &notes, &e));
	EQ(notes.n_late_system, 2);
	json_decref(out);
	out = NULL;
	EQ(normalise(late, &strict, &out, NULL, &e), -EINVAL);
	assert_string_equal(e.text,
			    "messages[2].role: a system message must stand at the beginning");
	OK(normalise("[" S("a") "," S("b") "," U("q") "]", &strict, &out, NULL, &e));
}

TEST(what_is_given_is_not_changed)
{
	static const char text[] =
		"{\"messages\":[" S("a") "," S("b") ",{\"role\":\"assistant\","
		"\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}],"
		"\"tools\":[{\"type\":\"function\","
		"\"function\":{\"name\":\"f\",\"z\":1,\"a\":2}}]}";
	JX_OWNED json_t *request = NULL, *again = NULL, *out = NULL;

	OK(jx_load(text, strlen(text), &request, NULL));
	OK(jx_load(text, strlen(text), &again, NULL));
	OK(request_normalise(request, NULL, &out, NULL, NULL));
	assert_true(json_equal(request, again));
	assert_true(json_object_get(out, "tools") == json_object_get(request, "tools"));
}

TEST(a_wrong_type_is_refused_by_the_name_of_its_field)
{
	static const char *const cases[][2] = {
		{ "{}", "messages: must be a list" },
		{ "{\"messages\":{}}", "messages: must be a list" },
		{ "[5]", "messages[0]: must be an object" },
		{ "[{}]", "messages[0].role: must be a string" },
		{ "[{\"role\":5}]", "messages[0].role: must be a string" },
		{ "[" U("q") ",{\"role\":\"user\",\"content\":5}]",
		  "messages[1].content: must be a string, a list of parts or null" },
		{ "[{\"role\":\"user\",\"content\":[\"x\"]}]",
		  "messages[0].content[0]: must be an object" },
		{ "[{\"role\":\"user\",\"content\":[{\"type\":5}]}]",
		  "messages[0].content[0].type: must be a string" },
		{ "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":5}]}]",
		  "messages[0].content[0].text: must be a string" },
		{ "[{\"role\":\"assistant\",\"reasoning\":5}]",
		  "messages[0].reasoning: must be a string or null" },
		{ "[{\"role\":\"tool\",\"tool_call_id\":5}]",
		  "messages[0].tool_call_id: must be a string or null" },
		{ "[{\"role\":\"assistant\",\"tool_calls\":5}]",
		  "messages[0].tool_calls: must be a list or null" },
		{ "[{\"role\":\"assistant\",\"tool_calls\":[5]}]",
		  "messages[0].tool_calls[0]: must be an object" },
		{ "[{\"role\":\"assistant\",\"tool_calls\":[{}]}]",
		  "messages[0].tool_calls[0].function: must be an object" },
		{ "[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{}}]}]",
		  "messages[0].tool_calls[0].function.name: must be a string" },
		{ "{\"messages\":[],\"tools\":5}", "tools: must be a list or null" },
		{ "{\"messages\":[],\"tools\":[5]}", "tools[0]: must be an object" },
		{ "{\"messages\":[],\"tools\":[{\"type\":\"function\"}]}",
		  "tools[0].function: must be an object" },
		{ "{\"messages\":[],\"tools\":[{\"type\":\"function\",\"function\":{}}]}",
		  "tools[0].function.name: must be a string" },
		{ "{\"messages\":[],\"chat_template_kwargs\":5}",
		  "chat_template_kwargs: must be an object or null" },
		{ "{\"messages\":[],\"add_generation_prompt\":5}",
		  "add_generation_prompt: must be true or false" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		refused(cases[i][0], cases[i][1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(developer_is_system),
		cmocka_unit_test(reasoning_is_reasoning_content),
		cmocka_unit_test(arguments_become_an_object),
		cmocka_unit_test(arguments_that_are_no_object_are_shown_and_not_refused),
		cmocka_unit_test(system_messages_at_the_start_are_joined_by_a_blank_line),
		cmocka_unit_test(a_late_system_message_is_a_users_or_refused),
		cmocka_unit_test(what_is_given_is_not_changed),
		cmocka_unit_test(a_wrong_type_is_refused_by_the_name_of_its_field),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
