/* out_parser_fuzz.c - any answer through the output parser, whole, a byte at a time and in
 * pieces: the events must join to the same, and the arguments must be JSON.
 *
 * Byte 0 picks options, byte 1 a seed for the cuts; in the rest, bytes below 48 stand for the
 * fragments below (0 is itself, too), so that the fuzzer writes markup and not only letters.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "worker/text/out_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char tools_text[] =
	"[{\"function\": {\"name\": \"f\", \"parameters\": {\"$defs\": {\"R\": {\"$ref\": "
		"\"#/$defs/R\"}},"
	"\"properties\": {\"s\": {\"type\": \"string\"}, \"i\": {\"type\": \"integer\"},"
	"\"n\": {\"type\": [\"number\", \"null\"]}, \"b\": {\"type\": \"boolean\"}, \"o\": "
		"{\"type\": \"object\"},"
	"\"l\": {\"anyOf\": [{\"type\": \"array\"}, {\"type\": \"string\"}]}, \"e\": {\"enum\": "
		"[\"5\", 5, null]},"
	"\"r\": {\"$ref\": \"#/$defs/R\"}}}}}]";

static const char *const fragments[48] = {
	"\0", "<think>", "</think>", "<tool_call>", "</tool_call>", "<function=", "</function>",
	"<parameter=", "</parameter>", "\t", "\n", "<tool_call>\n<function=f>\n",
		"</function>\n</tool_call>",
	"\r", "<parameter=s>\n", "<parameter=i>\n", "<parameter=n>", "<parameter=b>",
		"<parameter=o>\n",
	"<parameter=l>\n", "<parameter=e>", "<parameter=r>", "\n</parameter>\n", "{'a': ", "True",
		"None",
	"null", "[1, ", "'x', ", "1e999", "\"\\ud800\"", "é", " ", "!", "\"", "🙂",
	"<function=g>",
		"</par",
	"<", "\xff", "\xf0\x9f", ">", "</", "f>\n", ",", "-1.5", ".", "}",
};

static json_t *tools(void)
{
	static json_t *v;

	if (!v && jx_load(tools_text, sizeof(tools_text) - 1, &v, NULL) < 0)
		abort();
	return v;
}

static int no_random(void *ctx, void *bytes, size_t n)
{
	(void)ctx;
	memset(bytes, 0, n);
	return 0;
}

static void put_text(struct buf *b, const uint8_t *data, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (data[i] == 0)
			buf_putc(b, '\0');
		else if (data[i] < 48)
			buf_puts(b, fragments[data[i]]);
		else
			buf_putc(b, (char)data[i]);
	}
}

/* `step` 0: whole; else pieces of 1..step bytes. */
static json_t *parse(const struct buf *text, unsigned options, size_t step, unsigned seed)
{
	const struct out_options o = {
		.tools = options & 1 ? NULL : tools(),
		.thinking = options & 2,
	};
	struct out_parser *p;
	struct out_message m;
	json_t *v;

	out_message_init(&m, no_random, NULL);
	if (out_parser_new(&o, &p, NULL) < 0)
		abort();
	for (size_t i = 0, n; i < text->n; i += n) {
		seed = seed * 1103515245u + 12345u;
		n = step ? (seed >> 16) % step + 1 : text->n;
		n = n < text->n - i ? n : text->n - i;
		if (out_parser_feed(p, text->p + i, n, out_message_take, &m) != 0)
			abort();
	}
	if (out_parser_finish(p, options & 4, out_message_take, &m) != 0)
		abort();
	for (size_t i = 0; i < m.n_calls; i++) {
		JX_OWNED json_t *arguments = NULL;

		/* U+0000 in a key is JSON that our own reader refuses */
		if (memchr(text->p, '\0', text->n))
			continue;
		if (jx_load(m.calls[i].arguments.p, m.calls[i].arguments.n, &arguments, NULL) < 0 ||
		    !json_is_object(arguments))
			abort();
	}
	v = out_message_json(&m);
	out_message_done(&m);
	out_parser_free(p);
	return v;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	JX_OWNED json_t *whole = NULL;

	if (n < 2)
		return 0;
	put_text(&text, data + 2, n - 2);
	whole = parse(&text, data[0], 0, 0);
	for (size_t step = 1; step < 40; step = step * 3 + 1) {
		JX_OWNED json_t *cut = parse(&text, data[0], step, data[1]);

		if (!whole || !cut || !json_equal(whole, cut))
			abort();
	}
	return 0;
}
