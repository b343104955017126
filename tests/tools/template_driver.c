/* template_driver.c - renders what it is told, for tests/golden/compare_template.py.
 *
 * JSON lines in: {"template": PATH or "text": SOURCE, "request": {...}, "normalise": bool}; one
 * JSON line out for each: {"prompt", "data": [[from, to], ...]} or {"error", "code"}.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "worker/text/request.h"
#include "worker/text/template.h"

struct driver {
	char *key;		/* what `template` was made of */
	struct template *template;
};

static int read_file(const char *path, struct buf *b)
{
	CLEANUP(fclosep) FILE *f = fopen(path, "rbe");
	char part[4096];
	size_t n;

	if (!f)
		return -errno;
	while ((n = fread(part, 1, sizeof(part), f)) > 0)
		buf_put(b, part, n);
	return buf_ok(b) ? 0 : -ENOMEM;
}

/* The template of this line, the last one again where it is the same. */
static int use_template(struct driver *d, const json_t *line, struct err *e)
{
	size_t n_text = 0;
	const char *path = jx_str(json_object_get(line, "template"), NULL);
	const char *text = jx_str(json_object_get(line, "text"), &n_text);
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	int r;

	if (path && d->key && !strcmp(path, d->key))
		return 0;
	d->template = template_free(d->template);
	free(d->key);
	d->key = path ? strdup(path) : NULL;
	if (path && (r = read_file(path, &b)) < 0)
		return err_set(e, r, "%s: %s", path, strerror(-r));
	r = template_parse(path ? b.p : text, path ? b.n : n_text, &d->template, e);
	if (r < 0) {
		free(d->key);
		d->key = NULL;
		return r;
	}
	template_define(d->template, "bos_token", "<s>");
	return 0;
}

static int render(struct driver *d, const json_t *line, struct rendered *out, struct err *e)
{
	const struct template_limits limits = { .now = 1700000000 };
	const json_t *request = json_object_get(line, "request");
	JX_OWNED json_t *normal = NULL;
	int r;

	r = use_template(d, line, e);
	if (r < 0)
		return r;
	if (json_is_true(json_object_get(line, "normalise"))) {
		r = request_normalise(request, NULL, &normal, NULL, e);
		if (r < 0)
			return r;
		request = normal;
	}
	return template_render(d->template, request, &limits, out, e);
}

static void answer(struct driver *d, const char *text, size_t n, struct buf *b)
{
	struct rendered out = RENDERED_INIT;
	JX_OWNED json_t *line = NULL;
	struct err e = { 0 };
	int r = jx_load(text, n, &line, &e);

	if (r == 0)
		r = render(d, line, &out, &e);
	if (r < 0) {
		buf_puts(b, "{\"error\":");
		jx_put_str(b, e.text, strlen(e.text));
		buf_printf(b, ",\"code\":%d}\n", r);
		return;
	}
	buf_puts(b, "{\"prompt\":");
	jx_put_str(b, out.text.p ? out.text.p : "", out.text.n);
	buf_puts(b, ",\"data\":[");
	for (size_t i = 0; i < out.n_data; i++)
		buf_printf(b, "%s[%zu,%zu]", i ? "," : "", out.data[i].from, out.data[i].to);
	buf_puts(b, "]}\n");
	rendered_done(&out);
}

int main(void)
{
	struct driver d = { NULL, NULL };
	char *text = NULL;
	size_t cap = 0;
	ssize_t n;

	while ((n = getline(&text, &cap, stdin)) > 0) {
		CLEANUP(buf_donep) struct buf b = BUF_INIT;

		answer(&d, text, (size_t)n, &b);
		fwrite(b.p, 1, b.n, stdout);
		fflush(stdout);
	}
	free(text);
	free(d.key);
	template_free(d.template);
	return 0;
}
