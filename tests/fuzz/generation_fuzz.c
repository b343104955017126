/* generation_fuzz.c - any token ids through a generation: what comes out after a continuation
 * must be what would have come out anyway, stop strings and log-probabilities included.
 *
 * Byte 0: options; byte 1: where the continuation begins; then pairs of bytes are ids.  The
 * tokenizer is models/tiny's; run from the top of the tree.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "worker/generation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct stop_string stops[] = { { "</think>\n", 9 }, { "the", 3 }, { "\n\n", 2 } };

static struct tokenizer *tokenizer(void)
{
	static struct tokenizer *t;

	if (!t && tokenizer_open("models/tiny", &t, NULL) < 0)
		abort();
	return t;
}

static json_t *tools(void)
{
	static const char text[] = "[{\"function\": {\"name\": \"f\"}}]";
	static json_t *v;

	if (!v && jx_load(text, sizeof(text) - 1, &v, NULL) < 0)
		abort();
	return v;
}

static struct generation *make(uint8_t how)
{
	const struct out_options parse = { .tools = how & 1 ? tools() : NULL,
					   .thinking = (how & 2) != 0 };
	const uint32_t end = 1218;
	const struct gen_spec spec = { .tokenizer = tokenizer(),
				       .parse = how & 4 ? &parse : NULL, .stops = stops,
				       .n_stops = how & 8 ? 3 : 0, .stop_ids = &end,
				       .n_stop_ids = 1, .logprobs = (how & 16) != 0 };
	struct generation *g;

	if (generation_new(&spec, &g, NULL) < 0)
		abort();
	return g;
}

/* Feeds from `from` on, forgets what came out before `keep`, and finishes; how many were fed. */
static size_t feed(struct generation *g, const uint32_t *ids, size_t n, size_t from, size_t keep,
		   bool length)
{
	size_t i;

	for (i = from; i < n; i++) {
		const struct gen_logprob t = { .token = ids[i] };
		int r;

		if (i == keep)
			gen_out_clear(generation_out(g));
		r = generation_push(g, &t);
		if (r < 0)
			abort();
		if (r > 0) {
			length = false;
			i++;
			break;
		}
	}
	if (generation_finish(g, length) < 0)
		abort();
	return i;
}

static void same(struct generation *a, struct generation *b)
{
	const struct gen_out *x = generation_out(a), *y = generation_out(b);
	struct gen_counts n = generation_counts(a), m = generation_counts(b);

	if (x->text.n != y->text.n || x->n_pieces != y->n_pieces ||
	    (x->text.n && memcmp(x->text.p, y->text.p, x->text.n)) ||
	    x->tokens.n != y->tokens.n || memcmp(&n, &m, sizeof(n)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	uint32_t ids[512];
	size_t n_ids = 0, known, used;
	struct generation *a, *b;

	if (n < 2)
		return 0;
	for (size_t i = 2; i + 1 < n && n_ids < 512; i += 2)
		ids[n_ids++] = (uint32_t)(data[i] | data[i + 1] << 8) % 1300;
	known = n_ids ? data[1] % n_ids : 0;
	a = make(data[0]);
	b = make(data[0]);
	if (generation_known(b, ids, known, &used) == 0) {
		bool length = data[0] & 32;

		feed(a, ids, n_ids, 0, known, length);
		feed(b, ids, n_ids, known, known, length);
		same(a, b);
	}
	generation_free(a);
	generation_free(b);
	return 0;
}
