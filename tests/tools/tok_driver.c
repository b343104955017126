/* tok_driver.c - drives the tokenizer from a test or by hand.
 *
 *	tok_driver MODEL_DIR		JSON lines on stdin, one line out for each:
 *	    {"text": s, "special": true, "data": [[from, to], ...]}	{"ids": [...]}
 *	    {"ids": [...], "skip_special": false}			{"text": s}
 *	    {"ids": [...], "stream": true}				{"deltas": [s, ...]}
 *	    what cannot be done						{"error": s}
 *	tok_driver MODEL_DIR --bench FILE ...
 *		encodes each file (all of it as one text) and prints MB/s, the best of
 *		several passes, and how long opening took.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/own.h"
#include "worker/text/detok.h"
#include "worker/text/tokenizer.h"

#define MAX_SPANS 64

static int read_spans(const json_t *list, struct text_span *span, size_t *ret_n)
{
	size_t n = json_array_size(list);
	int64_t from, to;

	if (n > MAX_SPANS)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		const json_t *v = json_array_get(list, i);

		if (jx_int64(json_array_get(v, 0), &from) < 0 ||
		    jx_int64(json_array_get(v, 1), &to) < 0)
			return -EINVAL;
		span[i] = (struct text_span){ (size_t)from, (size_t)to };
	}
	*ret_n = n;
	return 0;
}

static int do_encode(const struct tokenizer *t, const json_t *req, struct buf *out)
{
	CLEANUP(ids_donep) struct ids ids = IDS_INIT;
	struct text_span span[MAX_SPANS];
	size_t n, n_span = 0;
	const char *text = jx_str(json_object_get(req, "text"), &n);
	unsigned flags = json_is_false(json_object_get(req, "special")) ? 0 : TOK_SPECIAL;
	int r = read_spans(json_object_get(req, "data"), span, &n_span);

	if (r == 0)
		r = tokenizer_encode(t, text, n, span, n_span, flags, &ids);
	if (r < 0)
		return r;
	buf_puts(out, "{\"ids\":[");
	for (size_t i = 0; i < ids.n; i++)
		buf_printf(out, "%s%u", i ? "," : "", ids.p[i]);
	return buf_puts(out, "]}");
}

static int read_ids(const json_t *list, struct ids *out)
{
	int64_t id;

	for (size_t i = 0; i < json_array_size(list); i++)
		if (jx_int64(json_array_get(list, i), &id) < 0 || id < 0 || id > UINT32_MAX ||
		    ids_push(out, (uint32_t)id) < 0)
			return -EINVAL;
	return 0;
}

/* One delta for each token; what the end of the stream releases joins the last. */
static int put_deltas(const struct tokenizer *t, const struct ids *ids, bool skip, struct buf *out)
{
	CLEANUP(buf_donep) struct buf delta = BUF_INIT;
	struct detok d;

	detok_init(&d, t, skip);
	buf_puts(out, "{\"deltas\":[");
	for (size_t i = 0; i < ids->n; i++) {
		buf_clear(&delta);
		detok_push(&d, ids->p[i], &delta);
		if (i + 1 == ids->n)
			detok_finish(&d, &delta);
		buf_puts(out, i ? "," : "");
		jx_put_str(out, delta.p ? delta.p : "", delta.n);
	}
	return buf_puts(out, "]}");
}

static int do_decode(const struct tokenizer *t, const json_t *req, struct buf *out)
{
	CLEANUP(ids_donep) struct ids ids = IDS_INIT;
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	bool skip = json_is_true(json_object_get(req, "skip_special"));
	int r = read_ids(json_object_get(req, "ids"), &ids);

	if (r == 0 && json_is_true(json_object_get(req, "stream")))
		return put_deltas(t, &ids, skip, out);
	if (r == 0)
		r = tokenizer_decode(t, ids.p, ids.n, skip, &text);
	if (r < 0)
		return r;
	buf_puts(out, "{\"text\":");
	jx_put_str(out, text.p ? text.p : "", text.n);
	return buf_puts(out, "}");
}

static void answer(const struct tokenizer *t, const char *line, size_t n, struct buf *out)
{
	JX_OWNED json_t *req = NULL;
	struct err e = { 0, "" };
	int r = jx_load(line, n, &req, &e);

	if (r == 0)
		r = jx_is_str(json_object_get(req, "text")) ? do_encode(t, req, out) :
							      do_decode(t, req, out);
	if (r < 0) {
		buf_clear(out);
		buf_puts(out, "{\"error\":");
		jx_put_str(out, e.text[0] ? e.text : strerror(-r),
			   strlen(e.text[0] ? e.text : strerror(-r)));
		buf_puts(out, "}");
	}
}

static int serve(const struct tokenizer *t)
{
	CLEANUP(buf_donep) struct buf out = BUF_INIT;
	CLEANUP(freep) char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	while ((n = getline(&line, &cap, stdin)) >= 0) {
		buf_clear(&out);
		answer(t, line, (size_t)n, &out);
		buf_putc(&out, '\n');
		fwrite(out.p, 1, out.n, stdout);
		fflush(stdout);		/* the asker may wait for it */
	}
	return ferror(stdout) ? 1 : 0;
}

static int read_all(const char *path, struct buf *out)
{
	CLEANUP(fclosep) FILE *f = fopen(path, "rbe");
	size_t n;

	if (!f)
		return -errno;
	do {
		if (buf_reserve(out, 1 << 16) < 0)
			return -ENOMEM;
		n = fread(out->p + out->n, 1, out->cap - out->n, f);
		out->n += n;
	} while (n);
	return ferror(f) ? -EIO : 0;
}

static int bench(const struct tokenizer *t, const char *path)
{
	CLEANUP(buf_donep) struct buf text = BUF_INIT, back = BUF_INIT;
	CLEANUP(ids_donep) struct ids ids = IDS_INIT;
	uint64_t best = UINT64_MAX, from, all = 0;
	int r = read_all(path, &text);

	for (int i = 0; r == 0 && i < 20 && (i < 3 || all < NS_PER_S); i++) {
		ids_clear(&ids);
		from = clock_ns();
		r = tokenizer_encode(t, text.p, text.n, NULL, 0, TOK_SPECIAL, &ids);
		from = clock_ns() - from;
		all += from;
		best = from < best ? from : best;
	}
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(-r));
		return 1;
	}
	from = clock_ns();
	tokenizer_decode(t, ids.p, ids.n, false, &back);
	from = clock_ns() - from;
	printf("%s: %zu bytes, %zu ids, encode %.1f MB/s, decode %.1f MB/s\n", path, text.n, ids.n,
	       1e3 * (double)text.n / (double)best, 1e3 * (double)back.n / (double)from);
	return 0;
}

int main(int argc, char **argv)
{
	struct tokenizer *t = NULL;
	struct err e;
	uint64_t from = clock_ns();
	int r = 0;

	if (argc < 2) {
		fprintf(stderr, "usage: tok_driver MODEL_DIR [--bench FILE ...]\n");
		return 2;
	}
	if (tokenizer_open(argv[1], &t, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	if (argc > 2 && !strcmp(argv[2], "--bench")) {
		printf("opened in %.2f s\n", (double)(clock_ns() - from) / 1e9);
		for (int i = 3; i < argc; i++)
			r |= bench(t, argv[i]);
	} else {
		r = serve(t);
	}
	tokenizer_free(t);
	return r;
}
