/* cloud_test.c - claims about other servers' streams, and what is sent to them. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/own.h"
#include "router/cloud.h"
#include "router/cloud_reader.h"

struct seen {
	char text[512];
	uint32_t prompt, output;
};

static void add(struct seen *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct seen *s, const char *fmt, ...)
{
	size_t n = strlen(s->text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->text + n, sizeof(s->text) - n, fmt, ap);
	va_end(ap);
}

static void on_accepted(void *arg, const Hw__Accepted *m)
{
	((struct seen *)arg)->prompt = m->prompt_tokens;
}

static void on_delta(void *arg, const Hw__Delta *d)
{
	for (size_t i = 0; i < d->n_piece; i++) {
		const Hw__Piece *p = d->piece[i];

		add(arg, "%c%u:%.*s ", "?crBA"[p->channel], p->call, (int)p->text.len,
		    (const char *)p->text.data);
	}
}

static void on_done(void *arg, const Hw__Done *d)
{
	add(arg, "done%u", d->finish);
	((struct seen *)arg)->output += d->output_tokens;
}

static const struct attempt_hooks hooks = { .accepted = on_accepted, .delta = on_delta, .done = on_done };

/* Feeds `text` cut after each `step` bytes. */
static int read_stream(const char *text, size_t step, struct seen *seen)
{
	struct cloud_reader r;
	bool gone = false;
	int rc = 0;

	memset(seen, 0, sizeof(*seen));
	OK(cloud_reader_init(&r, OA_CHAT, 1, &hooks, seen, &gone));
	for (size_t i = 0; i < strlen(text) && rc == 0; i += step)
		rc = cloud_reader_feed(&r, text + i, step < strlen(text) - i ? step : strlen(text) - i);
	if (rc >= 0)
		rc = cloud_reader_end(&r);
	cloud_reader_done(&r);
	return rc;
}

static void stream_is(const char *text, const char *want)
{
	struct seen seen;

	for (size_t step = 1; step <= strlen(text); step += 3) {
		OK(read_stream(text, step, &seen));
		assert_string_equal(seen.text, want);
	}
}

#define D(delta, finish) "data: {\"choices\":[{\"index\":0,\"delta\":" delta ",\"finish_reason\":" finish "}]}\n\n"
#define CALL(fields) D("{\"tool_calls\":[{" fields "}]}", "null")
#define STOP D("{}", "\"stop\"")

TEST(text_reasoning_and_usage_are_read)
{
	struct seen seen;

	stream_is(D("{\"role\":\"assistant\",\"content\":\"\"}", "null") D("{\"reasoning\":\"why\"}", "null")
		  D("{\"content\":\"h\\u00e9\"}", "null") STOP "data: [DONE]\n\n", "r0:why c0:h\xc3\xa9 done1");
	OK(read_stream(D("{\"content\":\"x\"}", "null") STOP
		       "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n", 9, &seen));
	EQ(seen.prompt, 3);
	EQ(seen.output, 2);
}

TEST(calls_that_all_have_index_0_are_told_apart_by_id)
{
	stream_is(CALL("\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}")
		  CALL("\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"}\"}")
		  CALL("\"index\":0,\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"{\"}")
		  CALL("\"index\":0,\"function\":{\"arguments\":\"}\"}") STOP,
		  "B0:f A0:{ A0:} B1:g A1:{ A1:} done1");
}

TEST(a_missing_index_is_inferred)
{
	stream_is(CALL("\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}")
		  CALL("\"function\":{\"arguments\":\"}\"}")
		  CALL("\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}") STOP,
		  "B0:f A0:{ A0:} B1:g A1:{} done1");
}

TEST(interleaved_calls_follow_their_index)
{
	stream_is(CALL("\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\"}")
		  CALL("\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"g\"}")
		  CALL("\"index\":0,\"function\":{\"arguments\":\"1\"}")
		  CALL("\"index\":1,\"function\":{\"arguments\":\"2\"}") STOP, "B0:f B1:g A0:1 A1:2 done1");
}

TEST(a_cut_stream_is_no_answer)
{
	struct seen seen;

	EQ(read_stream(D("{\"content\":\"x\"}", "null"), 99, &seen), -EPIPE);
	EQ(read_stream("", 1, &seen), -EPIPE);
	EQ(read_stream("data: [DONE]\n\n", 99, &seen), -EPIPE);
	EQ(read_stream("data: {\n\n", 99, &seen), -EPROTO);
	EQ(read_stream("data: {\"error\":{\"message\":\"no\"}}\n\n", 99, &seen), -EREMOTEIO);
	EQ(read_stream(CALL("\"index\":0,\"id\":\"a\""), 99, &seen), -EPROTO);
	EQ(read_stream("data: {\"choices\":[{\"index\":5}]}\n\n", 99, &seen), -EPROTO);
}

TEST(what_is_ours_does_not_leave_the_house)
{
	static const char body[] = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"user\":\"me\","
				   "\"temperature\":1.50,\"top_p\":null,\"chat_template_kwargs\":{},\"fallbacks\":[\"z\"]}";
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	struct oa_request r;
	struct oa_error e;

	OK(oa_request_parse(OA_CHAT, body, sizeof(body) - 1, &r, &e));
	OK(cloud_body(&r, "big", &b));
	assert_string_equal(b.p, "{\"model\":\"big\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
				 "\"temperature\":1.50,\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
	oa_request_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_reasoning_and_usage_are_read),
		cmocka_unit_test(calls_that_all_have_index_0_are_told_apart_by_id),
		cmocka_unit_test(a_missing_index_is_inferred),
		cmocka_unit_test(interleaved_calls_follow_their_index),
		cmocka_unit_test(a_cut_stream_is_no_answer),
		cmocka_unit_test(what_is_ours_does_not_leave_the_house),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
