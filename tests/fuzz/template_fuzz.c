/* template_fuzz.c - any template on any request: the template's text, then, after the
 * first byte 0xff, the request's.  Within small limits, so that an input takes milliseconds. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "lib/utf8.h"
#include "worker/text/request.h"
#include "worker/text/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char usual[] =
	"{\"messages\":[{\"role\":\"user\",\"content\":\"\\u00e9 x\"}],"
	"\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],"
	"\"chat_template_kwargs\":{\"s\":\"a b\",\"i\":7,\"f\":2.5,\"big\":123456789012345678901,"
	"\"l\":[3,1,2],\"d\":{\"a\":1,\"b\":[null,true]},\"t\":true,\"nil\":null}}";

static void check(const struct rendered *out)
{
	size_t at = 0;

	if (!utf8_ok(out->text.p ? out->text.p : "", out->text.n))
		abort();
	for (size_t i = 0; i < out->n_data; i++) {
		if (out->data[i].from >= out->data[i].to || out->data[i].to > out->text.n ||
		    (i && out->data[i].from <= at))
			abort();
		at = out->data[i].to;
	}
}

static void render(const struct template *t, const json_t *request)
{
	const struct template_limits limits = {
		.steps = 200000, .output_bytes = 1 << 20, .memory_bytes = 32 << 20, .now = 1,
	};
	struct rendered out = RENDERED_INIT;
	struct err e = { 0 };

	if (template_render(t, request, &limits, &out, &e) == 0)
		check(&out);
	else if (!e.text[0] || e.code == 0)
		abort();
	rendered_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const uint8_t *cut = n ? memchr(data, 0xff, n) : NULL;
	const char *json = cut ? (const char *)cut + 1 : usual;
	size_t n_json = cut ? n - (size_t)(cut + 1 - data) : sizeof(usual) - 1;
	JX_OWNED json_t *request = NULL, *normal = NULL;
	struct template *t = NULL;
	struct err e = { 0 };

	if (jx_load(json, n_json, &request, NULL) < 0)
		return 0;
	if (request_normalise(request, NULL, &normal, NULL, &e) < 0 && !e.text[0])
		abort();
	if (template_parse((const char *)data, cut ? (size_t)(cut - data) : n, &t, &e) < 0) {
		if (!e.text[0])
			abort();
		return 0;
	}
	render(t, request);
	if (normal)
		render(t, normal);
	template_free(t);
	return 0;
}
