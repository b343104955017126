/* model_argv.c - the words a worker is started with. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/model_conf.h"
#include "lib/own.h"

/* Words as offsets into one text, until the text has its final place. */
struct words {
	struct buf text;
	size_t at[MODEL_MAX_ARGS];
	size_t n;
	bool failed;
};

static void add(struct words *w, const char *word, size_t n)
{
	if (w->n == MODEL_MAX_ARGS - 1) {
		w->failed = true;
		return;
	}
	w->at[w->n++] = w->text.n;
	if (buf_put(&w->text, word, n) < 0 || buf_putc(&w->text, '\0') < 0)
		w->failed = true;
}

static void pair(struct words *w, const char *name, const char *value)
{
	if (!value)
		return;
	add(w, name, strlen(name));
	add(w, value, strlen(value));
}

static void number(struct words *w, const char *name, uint64_t x)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, x);
	if (x)
		pair(w, name, text);
}

static void split(struct words *w, const char *args)
{
	static const char blanks[] = " \t\n";
	const char *p = args ? args + strspn(args, blanks) : "";

	while (*p) {
		size_t n = strcspn(p, blanks);

		add(w, p, n);
		p += n;
		p += strspn(p, blanks);
	}
}

static char **join(const struct words *w)
{
	size_t table = (w->n + 1) * sizeof(char *);
	char **argv = malloc(table + w->text.n);
	char *text;

	if (!argv)
		return NULL;
	text = (char *)argv + table;
	memcpy(text, w->text.p, w->text.n);
	for (size_t i = 0; i < w->n; i++)
		argv[i] = text + w->at[i];
	argv[w->n] = NULL;
	return argv;
}

char **model_conf_argv(const struct box_conf *b, const struct model_conf *m)
{
	struct words w = { .text = BUF_INIT };
	char name[192], **argv;

	model_conf_worker_name(b, m->alias, name);
	add(&w, "serve", 5);
	add(&w, m->path, strlen(m->path));
	pair(&w, "--connect", b->router);
	pair(&w, "--alias", m->alias);
	pair(&w, "--name", name);
	pair(&w, "--device", m->device);
	pair(&w, "--quantize", strcmp(m->quantize, "none") ? m->quantize : NULL);
	pair(&w, "--kv", strcmp(m->kv_format, "bf16") ? m->kv_format : NULL);
	pair(&w, "--prefill-fp4", strcmp(m->prefill_fp4, "off") ? m->prefill_fp4 : NULL);
	number(&w, "--context", m->context);
	number(&w, "--slots", m->max_streams);
	number(&w, "--queue", m->queue);
	number(&w, "--kv-bytes", m->kv);
	number(&w, "--threads", m->threads);
	pair(&w, "--hearthd", b->memory_socket);
	pair(&w, "--curve-public", b->curve_public);
	pair(&w, "--curve-secret-file", b->curve_secret_file);
	pair(&w, "--curve-server", b->curve_server);
	split(&w, m->args);
	argv = w.failed ? NULL : join(&w);
	buf_done(&w.text);
	return argv;
}
