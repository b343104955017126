/* cloud_fuzz.c - any bytes as another server's stream, into a real answer. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "router/cloud_reader.h"
#include "router/openai_out.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct sink {
	struct oa_out out;
	struct buf frames;
	bool gone;
};

static void on_accepted(void *arg, const Hw__Accepted *m)
{
	((struct sink *)arg)->out.usage.prompt = m->prompt_tokens;
}

/* The reader repairs order, so the writer must never find anything wrong. */
static void on_delta(void *arg, const Hw__Delta *d)
{
	struct sink *s = arg;

	if (oa_out_delta(&s->out, d, &s->frames) < 0)
		abort();
}

static void on_done(void *arg, const Hw__Done *d)
{
	struct sink *s = arg;

	if (oa_out_finish(&s->out, d, NULL, &s->frames) < 0)
		abort();
}

static const struct attempt_hooks hooks = {
	.accepted = on_accepted, .delta = on_delta, .done = on_done,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char body[] = "{\"model\":\"m\",\"stream\":true,\"n\":2,\"logprobs\":true,"
				   "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}";
	struct sink s = { .gone = false };
	struct cloud_reader r;
	struct oa_request q;
	struct oa_error e;
	size_t half = n / 2;

	if (oa_request_parse(OA_CHAT, body, sizeof(body) - 1, &q, &e) < 0 ||
	    oa_out_init(&s.out, &q, "id", OA_REASONING_BOTH) < 0 ||
	    cloud_reader_init(&r, OA_CHAT, 2, &hooks, &s, &s.gone) < 0)
		abort();
	if (cloud_reader_feed(&r, (const char *)data, half) == 0 &&
	    cloud_reader_feed(&r, (const char *)data + half, n - half) >= 0)
		(void)cloud_reader_end(&r);
	cloud_reader_done(&r);
	oa_out_done(&s.out);
	oa_request_done(&q);
	buf_done(&s.frames);
	return 0;
}
