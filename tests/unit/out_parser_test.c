/* out_parser_test.c - claims about the output parsers.
 *
 * Every row of the two tables is parsed whole, cut once at every byte, a byte at a time, and
 * in random pieces; all must give the result the row states.
 */
#include "tests/unit/unit.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "lib/utf8.h"
#include "tests/unit/out_parser_cases.h"
#include "tests/unit/out_parser_types.h"
#include "worker/text/out_message.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static json_t *tools;
static struct CMUnitTest tests[512];
static size_t n_tests;

static int counting_random(void *ctx, void *bytes, size_t n)
{
	memset(bytes, ++*(unsigned char *)ctx, n);
	return 0;
}

/* ---- running a text ------------------------------------------------------------ */

struct run {
	struct out_parser *parser;
	struct out_message m;
	unsigned char next;	/* id */
	bool open;		/* a call was begun and not ended */
};

static int check_event(void *ctx, const struct out_event *ev)
{
	struct run *run = ctx;

	assert_true(ev->kind == OUT_CALL_END ? ev->n == 0 : ev->n > 0);
	assert_true(utf8_ok(ev->p, ev->n));
	if (ev->kind >= OUT_CALL_BEGIN) {
		assert_int_equal(run->open, ev->kind != OUT_CALL_BEGIN);
		assert_int_equal(ev->index, run->m.n_calls - (ev->kind == OUT_CALL_BEGIN ? 0 : 1));
		run->open = ev->kind != OUT_CALL_END;
	} else {
		assert_false(run->open);
	}
	return out_message_take(&run->m, ev);
}

static void begin(struct run *run, unsigned flags)
{
	JX_OWNED json_t *none = jx_str_new("none", 4);
	const struct out_options o = {
		.tools = flags & NO_TOOLS ? NULL : tools,
		.tool_choice = flags & NONE ? none : NULL,
		.thinking = flags & THINK,
	};

	*run = (struct run){ .parser = NULL };
	out_message_init(&run->m, counting_random, &run->next);
	OK(out_parser_new(&o, &run->parser, NULL));
}

static void feed(struct run *run, const char *text, size_t n)
{
	/* a copy of its own size: reading past it is seen by the sanitizer */
	CLEANUP(freep) char *piece = n ? malloc(n) : NULL;

	if (n)
		memcpy(piece, text, n);
	OK(out_parser_feed(run->parser, piece, n, check_event, run));
}

static void put_arguments(struct buf *b, const struct buf *arguments)
{
	JX_OWNED json_t *v = NULL;

	OK(jx_load(arguments->p, arguments->n, &v, NULL));
	assert_true(json_is_object(v));
	for (size_t i = 0; i < arguments->n; i++) {
		bool escaped = arguments->p[i] == '\\' && arguments->p[i + 1] == '"';

		if (escaped)
			buf_puts(b, "\\'"), i++;
		else
			buf_putc(b, arguments->p[i] == '"' ? '\'' : arguments->p[i]);
	}
}

static void end(struct run *run, unsigned flags, struct buf *result)
{
	OK(out_parser_finish(run->parser, !(flags & STOP), check_event, run));
	assert_false(run->open);
	if (run->m.reasoning.n)
		buf_printf(result, "R[%s]", run->m.reasoning.p);
	if (run->m.content.n)
		buf_printf(result, "%sC[%s]", result->n ? " " : "", run->m.content.p);
	for (size_t i = 0; i < run->m.n_calls; i++) {
		buf_printf(result, "%s%s", result->n ? " " : "", run->m.calls[i].name.p);
		put_arguments(result, &run->m.calls[i].arguments);
	}
	buf_puts(result, "");
	out_message_done(&run->m);
	out_parser_free(run->parser);
}

/* Cut at the offsets given; result as out_parser_cases.h writes it. */
static void expect(const char *text, unsigned flags, const size_t *cuts, size_t n_cuts,
		   const char *want)
{
	CLEANUP(buf_donep) struct buf result = BUF_INIT;
	struct run run;
	size_t from = 0;

	begin(&run, flags);
	for (size_t i = 0; i < n_cuts; from = cuts[i++])
		feed(&run, text + from, cuts[i] - from);
	feed(&run, text + from, strlen(text) - from);
	end(&run, flags, &result);
	assert_string_equal(result.p, want);
}

static int by_size(const void *a, const void *b)
{
	size_t x = *(const size_t *)a, y = *(const size_t *)b;

	return x < y ? -1 : x > y;
}

static void expect_any_cut(const char *text, unsigned flags, const char *want)
{
	size_t n = strlen(text);
	CLEANUP(freep) size_t *cuts = calloc(n + 1, sizeof(*cuts));

	expect(text, flags, NULL, 0, want);
	for (size_t i = 0; i <= n; i++)
		expect(text, flags, &i, 1, want);
	for (size_t i = 0; i < n; i++)
		cuts[i] = i;
	expect(text, flags, cuts, n, want);
	for (int round = 0; round < 10; round++) {
		size_t n_cuts = n ? (size_t)rand() % (n < 12 ? n : 12) + 1 : 0;

		for (size_t i = 0; i < n_cuts; i++)
			cuts[i] = (size_t)rand() % (n + 1);
		qsort(cuts, n_cuts, sizeof(*cuts), by_size);
		expect(text, flags, cuts, n_cuts, want);
	}
}

static void text_claim(void **state)
{
	const struct out_case *c = *state;

	expect_any_cut(c->text, c->flags, c->result);
}

static void type_claim(void **state)
{
	const struct type_case *c = *state;
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	CLEANUP(buf_donep) struct buf want = BUF_INIT;

	buf_printf(&text, OPEN "<parameter=%s>\n%s\n</parameter>\n" CLOSE, c->key, c->text);
	buf_printf(&want, "f{'%s': %s}", c->key, c->json);
	expect_any_cut(text.p, 0, want.p);
}

/* ---- other claims -------------------------------------------------------------- */

static void said(struct run *run, const char *text, const char *reasoning, const char *content,
		 const char *arguments)
{
	feed(run, text, strlen(text));
	assert_string_equal(run->m.reasoning.n ? run->m.reasoning.p : "", reasoning);
	assert_string_equal(run->m.content.n ? run->m.content.p : "", content);
	assert_string_equal(run->m.n_calls ? run->m.calls[run->m.n_calls - 1].arguments.n ?
			    run->m.calls[run->m.n_calls - 1].arguments.p : "" : "-", arguments);
}

TEST(only_what_could_be_markup_waits)
{
	CLEANUP(buf_donep) struct buf result = BUF_INIT;
	struct run run;

	begin(&run, THINK);
	said(&run, "\n", "", "", "-");
	said(&run, "I", "I", "", "-");
	said(&run, " a <", "I a ", "", "-");
	said(&run, "b\n\n", "I a <b", "", "-");
	said(&run, "c</think>\n", "I a <b\n\nc", "", "-");
	said(&run, "Hi", "I a <b\n\nc", "Hi", "-");
	said(&run, " <tool_call>", "I a <b\n\nc", "Hi", "-");
	said(&run, "!", "I a <b\n\nc", "Hi <tool_call>!", "-");
	said(&run, "<tool_call>\n<function=f", "I a <b\n\nc", "Hi <tool_call>!", "-");
	said(&run, ">", "I a <b\n\nc", "Hi <tool_call>!", "");
	said(&run, "<parameter=s>\nab", "I a <b\n\nc", "Hi <tool_call>!", "{\"s\": \"ab");
	said(&run, "\n", "I a <b\n\nc", "Hi <tool_call>!", "{\"s\": \"ab");
	said(&run, "</parameter>\n", "I a <b\n\nc", "Hi <tool_call>!", "{\"s\": \"ab");
	said(&run, "c", "I a <b\n\nc", "Hi <tool_call>!", "{\"s\": \"ab\\n</parameter>\\nc");
	said(&run, "</parameter><", "I a <b\n\nc", "Hi <tool_call>!",
	     "{\"s\": \"ab\\n</parameter>\\nc");
	said(&run, "/function>", "I a <b\n\nc", "Hi <tool_call>!",
	     "{\"s\": \"ab\\n</parameter>\\nc\"}");
	end(&run, 0, &result);
}

TEST(in_a_quoted_call_text_waits_from_the_first_end_on)
{
	CLEANUP(buf_donep) struct buf result = BUF_INIT;
	struct run run;

	begin(&run, 0);
	said(&run, BLOCK("a <tool_call><function=x> b"), "", "",
	     "{\"s\": \"a <tool_call><function=x> b");
	said(&run, "\n<parameter=k>c", "", "", "{\"s\": \"a <tool_call><function=x> b");
	said(&run, "</parameter></function></tool_call>d", "", "",
	     "{\"s\": \"a <tool_call><function=x> b\\n<parameter=k>c</parameter></function>"
	     "</tool_call>d");
	end(&run, 0, &result);
}

TEST(a_value_that_may_be_no_string_waits_for_its_end)
{
	CLEANUP(buf_donep) struct buf result = BUF_INIT;
	struct run run;

	begin(&run, 0);
	said(&run, OPEN "<parameter=si>\nab", "", "", "{\"si\": ");
	said(&run, "\n</parameter>\n</function>", "", "", "{\"si\": \"ab\"}");
	end(&run, 0, &result);
}

TEST(a_sink_that_stops_is_obeyed_from_then_on)
{
	const struct out_options o = { .tools = NULL };
	struct out_parser *p;
	int stop(void *ctx, const struct out_event *ev)
	{
		(void)ctx;
		(void)ev;
		return 7;
	}

	OK(out_parser_new(&o, &p, NULL));
	EQ(out_parser_feed(p, "a", 1, stop, NULL), 7);
	EQ(out_parser_feed(p, "b", 1, stop, NULL), 7);
	EQ(out_parser_finish(p, false, stop, NULL), 7);
	assert_null(out_parser_free(p));
}

TEST(tools_that_are_no_list_are_refused)
{
	JX_OWNED json_t *object = json_object();
	const struct out_options o = { .tools = object };
	struct out_parser *p = NULL;
	struct err e;

	EQ(out_parser_new(&o, &p, &e), -EINVAL);
	assert_null(p);
}

TEST(the_message_has_null_for_what_was_not_said)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	const struct out_options o = { .tools = tools };
	JX_OWNED json_t *v = NULL;
	struct out_message m;
	unsigned char next = 0;
	const char *text = CALL(PARAM("i", "1")) CALL("");

	out_message_init(&m, counting_random, &next);
	OK(out_message_parse(&m, &o, text, strlen(text), false, NULL));
	v = out_message_json(&m);
	OK(jx_put(&b, v, JX_COMPACT));
	assert_string_equal(b.p, "{\"reasoning_content\":null,\"content\":null,\"tool_calls\":["
			    "{\"id\":\"call_010101010101010101010101\",\"type\":\"function\","
			    "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"i\\\": 1}\"}},"
			    "{\"id\":\"call_020202020202020202020202\",\"type\":\"function\","
			    "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}");
	out_message_done(&m);
}

TEST(the_message_leaves_out_calls_when_there_is_none)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	const struct out_options o = { .thinking = true };
	JX_OWNED json_t *v = NULL;
	struct out_message m;
	unsigned char next = 0;

	out_message_init(&m, counting_random, &next);
	OK(out_message_parse(&m, &o, "a</think>b", 10, false, NULL));
	v = out_message_json(&m);
	OK(jx_put(&b, v, JX_COMPACT));
	assert_string_equal(b.p, "{\"reasoning_content\":\"a\",\"content\":\"b\"}");
	out_message_done(&m);
}

/* n bytes of `unit` after `head`, a byte at a time: quadratic work would take minutes. */
static void feed_long(const char *head, const char *unit, size_t n)
{
	CLEANUP(buf_donep) struct buf result = BUF_INIT;
	size_t n_unit = strlen(unit);
	struct run run;

	begin(&run, 0);
	feed(&run, head, strlen(head));
	for (size_t i = 0; i < n; i++)
		OK(out_parser_feed(run.parser, unit + i % n_unit, 1, out_message_take, &run.m));
	OK(out_parser_finish(run.parser, true, out_message_take, &run.m));
	out_message_done(&run.m);
	out_parser_free(run.parser);
}

TEST(a_million_bytes_of_anything_take_linear_time)
{
	static const char *const units[] = {
		"<", "<tool_cal ", "<tool_call> ", "<tool_call><function=a ", "\n", "\r", " ",
		"\n</parameter>\n", "</parameter> x", "\n</function>\n", "<tool_call><function=x>",
		"<tool_call><function=x>\n<parameter=k>\n",
		"<tool_call><function=x></function></tool_call>",
		"<tool_call><function=x>\n<parameter=k>\nv\n</parameter>\n</parameter>\n",
		"<parameter=a<tool_call><function=x>", "<tool_call><function=x><parameter=k>",
	};

	for (size_t i = 0; i < COUNT(units); i++) {
		feed_long("", units[i], 1000000);
		feed_long(BLOCK(""), units[i], 1000000);
	}
	feed_long("<tool_call><function=", "a", 1000000);
	feed_long(OPEN "<parameter=", "a", 1000000);
	feed_long(OPEN "<parameter=i>", "9", 1000000);
	feed_long(OPEN "<parameter=l>", "[", 1000000);
}

TEST(a_schema_that_refers_to_itself_twice_over_ends)
{
	const char *text = "[{\"name\": \"f\", \"parameters\": {\"$defs\": {"
		"\"A\": {\"anyOf\": [{\"$ref\": \"#/$defs/B\"}, {\"$ref\": \"#/$defs/B\"},"
		" {\"type\": \"null\"}]},"
		"\"B\": {\"anyOf\": [{\"$ref\": \"#/$defs/A\"}, {\"$ref\": \"#/$defs/A\"},"
		" {\"type\": \"integer\"}]}},"
		"\"properties\": {\"a\": {\"$ref\": \"#/$defs/A\"}}}}]";
	CLEANUP(buf_donep) struct buf result = BUF_INIT;
	JX_OWNED json_t *own = NULL, *before = tools;
	struct run run;

	OK(jx_load(text, strlen(text), &own, NULL));
	tools = own;
	begin(&run, 0);
	tools = TAKE(before);
	feed(&run, OPEN "<parameter=a>5", strlen(OPEN "<parameter=a>5"));
	end(&run, 0, &result);
	assert_string_equal(result.p, "f{'a': 5}");
}

/* ---- all of them --------------------------------------------------------------- */

static void add(const char *group, const char *claim, CMUnitTestFunction f, const void *row)
{
	char *name = NULL;

	assert(n_tests < COUNT(tests) && asprintf(&name, "%s: %s", group, claim) >= 0);
	tests[n_tests++] = (struct CMUnitTest){ name, f, NULL, NULL, (void *)(uintptr_t)row };
}

static void add_table(const char *group, const struct out_case *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		add(group, rows[i].claim, text_claim, &rows[i]);
}

static void load_tools(void)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	struct err e;

	buf_printf(&b, "[{\"type\": \"function\", \"function\": {\"name\": \"f\","
		   " \"parameters\": %s}}]", type_schemas);
	if (jx_load(b.p, b.n, &tools, &e) < 0) {
		fprintf(stderr, "the test's own tools: %s\n", e.text);
		exit(99);
	}
}

#define ADD(f) add("parser", #f, f, NULL)

int main(void)
{
	int failed;

	load_tools();
	add_table("reasoning", reasoning_cases, COUNT(reasoning_cases));
	add_table("content", content_cases, COUNT(content_cases));
	add_table("opening", opening_cases, COUNT(opening_cases));
	add_table("function", function_cases, COUNT(function_cases));
	add_table("value", value_cases, COUNT(value_cases));
	add_table("quoted call", quote_cases, COUNT(quote_cases));
	add_table("cut", cut_cases, COUNT(cut_cases));
	for (size_t i = 0; i < COUNT(type_cases); i++) {
		CLEANUP(freep) char *claim = NULL;

		assert(asprintf(&claim, "%s: %s is %s", type_cases[i].key, type_cases[i].text,
				type_cases[i].json) >= 0);
		for (char *c = claim; *c; c++)
			*c = *c == '\n' ? ' ' : *c;
		add("type", claim, type_claim, &type_cases[i]);
	}
	ADD(only_what_could_be_markup_waits);
	ADD(in_a_quoted_call_text_waits_from_the_first_end_on);
	ADD(a_value_that_may_be_no_string_waits_for_its_end);
	ADD(a_sink_that_stops_is_obeyed_from_then_on);
	ADD(tools_that_are_no_list_are_refused);
	ADD(the_message_has_null_for_what_was_not_said);
	ADD(the_message_leaves_out_calls_when_there_is_none);
	ADD(a_million_bytes_of_anything_take_linear_time);
	ADD(a_schema_that_refers_to_itself_twice_over_ends);

	failed = _cmocka_run_group_tests("out_parser", tests, n_tests, NULL, NULL);
	for (size_t i = 0; i < n_tests; i++)
		free((char *)(uintptr_t)tests[i].name);
	json_decref(tools);
	return failed;
}
