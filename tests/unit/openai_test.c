/* openai_test.c - claims about the dialect: what is accepted, and how answers look. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/own.h"
#include "router/openai_out.h"
#include "router/route.h"

#define MSG "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"

static int parse(const char *body, struct oa_request *r, struct oa_error *e)
{
	return oa_request_parse(OA_CHAT, body, strlen(body), r, e);
}

static void refused(const char *body, int status, const char *param)
{
	struct oa_request r;
	struct oa_error e = { 0 };

	assert_true(parse(body, &r, &e) < 0);
	EQ(e.status, status);
	assert_string_equal(e.param, param);
	assert_true(strlen(e.message) > 0);
}

TEST(fields_become_a_request)
{
	struct oa_request r;
	struct oa_error e;

	OK(parse("{\"model\":\"m\"," MSG ",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
		 "\"max_tokens\":9,\"max_completion_tokens\":5,\"temperature\":0.5,\"seed\":18,\"stop\":[\"a\",\"b\"],"
		 "\"logit_bias\":{\"7\":-1.5},\"n\":2,\"logprobs\":true,\"top_logprobs\":3,\"odd\":1,\"top_p\":null}",
		 &r, &e));
	assert_string_equal(r.model, "m");
	assert_true(r.stream && r.include_usage);
	EQ(r.max_tokens, 5);
	assert_true(r.sampling.has_temperature && r.sampling.temperature == 0.5f);
	assert_false(r.sampling.has_top_p);
	EQ(r.sampling.seed, 18);
	EQ(r.n_stop, 2);
	EQ(r.sampling.bias[0]->token, 7);
	EQ(r.needs, ABLE_CHAT | ABLE_N | ABLE_LOGPROBS);
	assert_string_equal(r.ignored.p, "odd");
	assert_false(r.rewritten);
	oa_request_done(&r);
}

TEST(what_is_wrong_is_named)
{
	refused("{", 400, "");
	refused("[]", 400, "");
	refused("{" MSG "}", 400, "model");
	refused("{\"model\":\"m\"}", 400, "messages");
	refused("{\"model\":\"m\"," MSG ",\"temperature\":2.1}", 400, "temperature");
	refused("{\"model\":\"m\"," MSG ",\"temperature\":1e400}", 400, "temperature");
	refused("{\"model\":\"m\"," MSG ",\"n\":1.0}", 400, "n");
	refused("{\"model\":\"m\"," MSG ",\"stop\":[\"\"]}", 400, "stop");
	refused("{\"model\":\"m\"," MSG ",\"logit_bias\":{\"-1\":1}}", 400, "logit_bias");
	refused("{\"model\":\"m\"," MSG ",\"logit_bias\":{\"99999999999\":1}}", 400, "logit_bias");
	refused("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}", 400,
		"messages[0]");
}

TEST(two_spellings_become_one)
{
	struct oa_request r;
	struct oa_error e;

	OK(parse("{\"model\":\"m\",\"messages\":[{\"role\":\"developer\",\"content\":\"d\"},{\"role\":\"assistant\","
		 "\"content\":null,\"reasoning\":\"why\"},{\"role\":\"user\",\"content\":\"x\"}],"
		 "\"reasoning_effort\":\"none\",\"z\":123456789012345678901234567890.10}", &r, &e));
	assert_true(r.rewritten);
	assert_non_null(strstr(r.chat.p, "{\"role\":\"system\",\"content\":\"d\"}"));
	assert_non_null(strstr(r.chat.p, "\"reasoning_content\":\"why\""));
	assert_null(strstr(r.chat.p, "\"reasoning\":"));
	assert_non_null(strstr(r.chat.p, "\"enable_thinking\":false"));
	assert_non_null(strstr(r.chat.p, "123456789012345678901234567890.10"));
	oa_request_done(&r);
}

TEST(completions_take_one_text_or_one_list_of_ids)
{
	struct oa_request r;
	struct oa_error e;
	static const char text[] = "{\"model\":\"m\",\"prompt\":[\"a\\u0000b\"],\"logprobs\":2}";
	static const char ids[] = "{\"model\":\"m\",\"prompt\":[1,2,3]}";
	static const char two[] = "{\"model\":\"m\",\"prompt\":[\"a\",\"b\"]}";

	OK(oa_request_parse(OA_COMPLETION, text, sizeof(text) - 1, &r, &e));
	EQ(r.n_prompt, 3);
	EQ(r.sampling.top_logprobs, 2);
	oa_request_done(&r);
	OK(oa_request_parse(OA_COMPLETION, ids, sizeof(ids) - 1, &r, &e));
	EQ(r.n_token, 3);
	oa_request_done(&r);
	assert_true(oa_request_parse(OA_COMPLETION, two, sizeof(two) - 1, &r, &e) < 0);
	assert_string_equal(e.param, "prompt");
}

TEST(an_error_has_four_keys)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	struct oa_error e;

	oa_error_set(&e, 404, NULL, NULL, "no \"x\"");
	oa_error_put(&e, &b);
	assert_string_equal(b.p, "{\"error\":{\"message\":\"no \\\"x\\\"\",\"type\":\"not_found_error\","
				 "\"param\":null,\"code\":null}}");
}

/* ---- answers ---- */

static void begin(struct oa_out *o, const char *more)
{
	struct oa_request r;
	struct oa_error e;
	char body[300];

	snprintf(body, sizeof(body), "{\"model\":\"m\"," MSG "%s}", more);
	OK(parse(body, &r, &e));
	OK(oa_out_init(o, &r, "chatcmpl-1", OA_REASONING_CONTENT));
	o->created = 5;
	oa_request_done(&r);
	OK(oa_out_fingerprint(o, "cls"));
}

static int piece(struct oa_out *o, Hw__Channel ch, const char *text, uint32_t call, const char *id,
		 struct buf *out)
{
	Hw__Delta d = HW__DELTA__INIT;
	Hw__Piece p = HW__PIECE__INIT, *ps[] = { &p };

	p.channel = ch;
	p.text.data = (uint8_t *)(uintptr_t)text;
	p.text.len = strlen(text);
	p.call = call;
	p.call_id = (char *)(uintptr_t)id;
	d.n_piece = 1;
	d.piece = ps;
	return oa_out_delta(o, &d, out);
}

#define HEAD "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":5,\"model\":\"m\"," \
	     "\"system_fingerprint\":\"cls\",\"choices\":["
#define CHUNK(delta, finish) HEAD "{\"index\":0,\"delta\":" delta ",\"logprobs\":null,\"finish_reason\":" finish "}]}\n\n"

TEST(a_stream_of_text_and_a_call)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	struct oa_out o;
	Hw__Done done = HW__DONE__INIT;

	begin(&o, ",\"stream\":true");
	OK(piece(&o, HW__CHANNEL__REASONING, "r", 0, NULL, &b));
	OK(piece(&o, HW__CHANNEL__CONTENT, "a\"\n", 0, NULL, &b));
	OK(piece(&o, HW__CHANNEL__CALL_BEGIN, "f", 0, "id0", &b));
	OK(piece(&o, HW__CHANNEL__CALL_ARGS, "{}", 0, NULL, &b));
	done.finish = HW__FINISH__STOP;
	OK(oa_out_finish(&o, &done, "\"hearth\":{}", &b));
	OK(oa_out_end(&o, NULL, &b));
	assert_string_equal(b.p,
		CHUNK("{\"role\":\"assistant\",\"content\":\"\"}", "null")
		CHUNK("{\"reasoning_content\":\"r\"}", "null")
		CHUNK("{\"content\":\"a\\\"\\n\"}", "null")
		CHUNK("{\"tool_calls\":[{\"index\":0,\"id\":\"id0\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}", "null")
		CHUNK("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{}\"}}]}", "null")
		HEAD "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"tool_calls\"}],\"hearth\":{}}\n\n"
		"data: [DONE]\n\n");
	oa_out_done(&o);
}

TEST(calls_out_of_order_are_refused)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	struct oa_out o;
	Hw__Done done = HW__DONE__INIT;

	begin(&o, "");
	EQ(piece(&o, HW__CHANNEL__CALL_ARGS, "{", 0, NULL, &b), -EPROTO);
	EQ(piece(&o, HW__CHANNEL__CALL_BEGIN, "f", 1, "id", &b), -EPROTO);
	OK(piece(&o, HW__CHANNEL__CALL_BEGIN, "f", 0, "id", &b));
	EQ(piece(&o, HW__CHANNEL__CALL_BEGIN, "f", 0, "id", &b), -EPROTO);
	EQ(piece(&o, HW__CHANNEL__CALL_ARGS, "{", 7, NULL, &b), -EPROTO);
	done.choice = 1;
	EQ(oa_out_finish(&o, &done, NULL, &b), -EPROTO);
	done.choice = 0;
	done.finish = HW__FINISH__STOP;
	OK(oa_out_finish(&o, &done, NULL, &b));
	EQ(oa_out_finish(&o, &done, NULL, &b), -EPROTO);
	EQ(piece(&o, HW__CHANNEL__CONTENT, "late", 0, NULL, &b), -EPROTO);
	oa_out_done(&o);
}

TEST(a_restart_forgets_what_was_collected)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	struct oa_out o;
	Hw__Done done = HW__DONE__INIT;

	begin(&o, "");
	OK(piece(&o, HW__CHANNEL__CONTENT, "first", 0, NULL, &b));
	OK(piece(&o, HW__CHANNEL__CALL_BEGIN, "f", 0, "id", &b));
	oa_out_restart(&o);
	OK(piece(&o, HW__CHANNEL__CONTENT, "second", 0, NULL, &b));
	done.finish = HW__FINISH__LENGTH;
	done.output_tokens = 4;
	OK(oa_out_finish(&o, &done, NULL, &b));
	EQ(b.n, 0);
	OK(oa_out_end(&o, NULL, &b));
	assert_non_null(strstr(b.p, "\"content\":\"second\",\"refusal\":null}"));
	assert_non_null(strstr(b.p, "\"finish_reason\":\"length\""));
	assert_non_null(strstr(b.p, "\"completion_tokens\":4"));
	assert_null(strstr(b.p, "first"));
	oa_out_done(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields_become_a_request),
		cmocka_unit_test(what_is_wrong_is_named),
		cmocka_unit_test(two_spellings_become_one),
		cmocka_unit_test(completions_take_one_text_or_one_list_of_ids),
		cmocka_unit_test(an_error_has_four_keys),
		cmocka_unit_test(a_stream_of_text_and_a_call),
		cmocka_unit_test(calls_out_of_order_are_refused),
		cmocka_unit_test(a_restart_forgets_what_was_collected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
