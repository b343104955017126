/* http_test.c - claims about reading requests and event streams, without sockets. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/own.h"
#include "lib/sse.h"
#include "router/http_int.h"

static const struct http_limits limits = { .max_body = 100, .max_header = 1000 };

static size_t feed(struct http_request *r, const char *text, size_t step)
{
	size_t n = strlen(text), at = 0;

	while (at < n && !r->complete && !r->status) {
		size_t k = step < n - at ? step : n - at;

		at += http_request_feed(r, text + at, k);
	}
	return at;
}

static int status_of(const char *text)
{
	struct http_request r;
	int status;

	http_request_init(&r, &limits);
	feed(&r, text, strlen(text));
	status = r.complete ? 200 : r.status;
	http_request_done(&r);
	return status;
}

TEST(a_request_is_the_same_however_it_is_cut)
{
	static const char text[] = "POST /v1/x?a=b HTTP/1.1\r\nHost: h\r\nX-One:  1\r\nEmpty:\r\n"
				   "Content-Length: 5\r\n\r\nhello";

	for (size_t step = 1; step < sizeof(text); step++) {
		struct http_request r;

		http_request_init(&r, &limits);
		EQ(feed(&r, text, step), sizeof(text) - 1);
		assert_true(r.complete);
		assert_string_equal(r.text.p + r.path, "/v1/x");
		assert_string_equal(r.text.p + r.query, "a=b");
		assert_string_equal(http_request_header(&r, "x-one"), "1");
		assert_string_equal(http_request_header(&r, "empty"), "");
		assert_null(http_request_header(&r, "x-two"));
		EQ(r.body.n, 5);
		assert_true(http_request_keep_alive(&r));
		http_request_done(&r);
	}
}

TEST(it_stops_where_the_next_request_begins)
{
	static const char one[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
	struct http_request r;
	char two[128];

	strcpy(two, one);
	strcat(two, "GET /second");
	http_request_init(&r, &limits);
	EQ(http_request_feed(&r, two, strlen(two)), sizeof(one) - 1);
	assert_true(r.complete);
	EQ(http_request_feed(&r, "x", 1), 0);
	http_request_done(&r);
}

TEST(chunks_are_joined)
{
	struct http_request r;

	http_request_init(&r, &limits);
	feed(&r, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", 3);
	assert_true(r.complete);
	assert_string_equal(r.body.p, "abcde");
	http_request_done(&r);
}

#define POST "POST / HTTP/1.1\r\nHost: h\r\n"

TEST(doubtful_framing_is_refused)
{
	EQ(status_of(POST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
	EQ(status_of(POST "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n"), 400);
	EQ(status_of(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
	EQ(status_of(POST "Transfer-Encoding: gzip\r\n\r\n"), 501);
	EQ(status_of(POST "Transfer-Encoding: gzip, chunked\r\n\r\n"), 501);
	EQ(status_of(POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"), 400);
	EQ(status_of(POST "Content-Length : 1\r\n\r\nx"), 400);
	EQ(status_of(POST "Content-Length: 0x1\r\n\r\nx"), 400);
	EQ(status_of(POST "Content-Length: 1, 1\r\n\r\nx"), 400);
	EQ(status_of("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
	EQ(status_of("GET / HTTP/1.1\r\n\r\n"), 400);
	EQ(status_of("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
	EQ(status_of("GET / HTTP/1.0\r\n\r\n"), 200);
	EQ(status_of("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
	EQ(status_of("GET nowhere HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
	EQ(status_of("GET http://h/p HTTP/1.1\r\nHost: a\r\n\r\n"), 200);
}

TEST(limits_hold)
{
	char big[3000];

	EQ(status_of(POST "Content-Length: 101\r\n\r\n"), 413);
	EQ(status_of(POST "Content-Length: 99999999999999999999\r\n\r\n"), 400);
	EQ(status_of(POST "Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"), 0);
	strcpy(big, "GET / HTTP/1.1\r\nHost: h\r\nA: ");
	memset(big + strlen(big), 'a', 1500);
	big[1528] = '\0';
	EQ(status_of(big), 431);
	EQ(status_of(POST "Expect: magic\r\nContent-Length: 1\r\n\r\nx"), 417);
}

/* ---- event streams ---- */

struct seen {
	char text[256];
	int n;
};

static int note(void *arg, const char *name, const char *data, size_t n)
{
	struct seen *s = arg;

	snprintf(s->text + strlen(s->text), sizeof(s->text) - strlen(s->text), "[%s|%.*s]", name,
		 (int)n, data);
	return !strcmp(data, "stop") ? 7 : 0;
}

static void stream_is(const char *text, const char *want)
{
	for (size_t step = 1; step <= strlen(text); step++) {
		struct seen seen = { { 0 }, 0 };
		struct sse s = { .event = note, .arg = &seen };

		for (size_t i = 0; i < strlen(text); i += step)
			OK(sse_feed(&s, text + i, step < strlen(text) - i ? step : strlen(text) - i));
		assert_string_equal(seen.text, want);
		sse_done(&s);
	}
}

TEST(events_are_the_same_however_they_are_cut)
{
	stream_is("data: a\n\ndata:b\r\n\r\ndata: c\r\rdata: d\n", "[|a][|b][|c]");
	stream_is("\xef\xbb\xbf" "data: a\n\n", "[|a]");
	stream_is(": ping\n\n\n\nevent: x\ndata: 1\ndata: 2\nid: 3\n\n", "[x|1\n2]");
	stream_is("event: x\n\ndata\n\n", "[|]");
	stream_is("data:  two blanks\n\nnodata: x\n\n", "[| two blanks]");
}

TEST(an_event_may_stop_the_reading)
{
	struct seen seen = { { 0 }, 0 };
	struct sse s = { .event = note, .arg = &seen };
	static const char text[] = "data: stop\n\ndata: more\n\n";

	EQ(sse_feed(&s, text, sizeof(text) - 1), 7);
	assert_string_equal(seen.text, "[|stop]");
	sse_done(&s);
}

TEST(an_event_without_end_is_not_kept_for_ever)
{
	struct seen seen = { { 0 }, 0 };
	struct sse s = { .event = note, .arg = &seen };
	static char piece[1 << 16];
	int r = 0;

	memset(piece, 'x', sizeof(piece));
	for (int i = 0; i < 100 && r == 0; i++)
		r = sse_feed(&s, piece, sizeof(piece));
	EQ(r, -EMSGSIZE);
	sse_done(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_is_the_same_however_it_is_cut),
		cmocka_unit_test(it_stops_where_the_next_request_begins),
		cmocka_unit_test(chunks_are_joined),
		cmocka_unit_test(doubtful_framing_is_refused),
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(events_are_the_same_however_they_are_cut),
		cmocka_unit_test(an_event_may_stop_the_reading),
		cmocka_unit_test(an_event_without_end_is_not_kept_for_ever),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
