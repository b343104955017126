/* status.c - `hearthctl status`: the router's own view as tables. */
#include <libsmartcols.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"
#include "lib/json.h"
#include "lib/own.h"

struct column {
	const char *title;
	const char *key;	/* of the object; several, joined by `/`, when it holds one */
	bool right;
};

static const struct column worker_columns[] = {
	{ "WORKER", "name", false }, { "MODEL", "model", false }, { "STATE", "state", false },
	{ "RUNNING", "running/max_running", true }, { "WAITING", "waiting/max_queue", true },
	{ "BLOCKS FREE", "free_blocks/total_blocks", true }, { "TOK/S", "decode_tokens_s", true },
	{ "TOKENS", "output_tokens", true }, { "UP S", "up_s", true }, { NULL, NULL, false },
};
static const struct column model_columns[] = {
	{ "BOX", "box", false }, { "MODEL", "alias", false }, { "STATE", "state", false },
	{ "LOADED %", "progress", true }, { "READY IN MS", "ready_ms", true },
	{ "IDLE S", "idle_s", true }, { "TTL S", "ttl_s", true }, { "FAILURES", "failures", true },
	{ "PIN", "pinned", false }, { "DRAINED", "drained", false }, { "WHY", "reason", false },
	{ NULL, NULL, false },
};
static const struct column upstream_columns[] = {
	{"UPSTREAM", "name", false},
	{"STATE", "state", false},
	{"IN FLIGHT", "in_flight", true},
	{"REQUESTS", "requests", true},
	{"FAILURES", "failures", true},
	{"URL", "url", false},
	{NULL, NULL, false},
};

static void put_value(const json_t *o, const char *key, struct buf *out)
{
	const json_t *v = json_object_get(o, key);
	const char *s = jx_is_num(v) ? jx_num(v) : jx_str(v, NULL);

	if (!s && json_is_boolean(v))
		s = json_is_true(v) ? "yes" : "-";
	buf_puts(out, s && *s ? s : "-");
}

static void put_cell(const json_t *o, const char *keys, struct buf *out)
{
	const char *slash = strchr(keys, '/');
	char first[64];

	if (!slash) {
		put_value(o, keys, out);
		return;
	}
	snprintf(first, sizeof(first), "%.*s", (int)(slash - keys), keys);
	put_value(o, first, out);
	buf_putc(out, '/');
	put_value(o, slash + 1, out);
}

static int add_row(struct libscols_table *t, const struct column *columns, const json_t *o)
{
	struct libscols_line *line = scols_table_new_line(t, NULL);

	for (size_t i = 0; line && columns[i].title; i++) {
		CLEANUP(buf_donep) struct buf cell = BUF_INIT;

		put_cell(o, columns[i].key, &cell);
		if (!buf_ok(&cell) || scols_line_set_data(line, i, cell.p) < 0)
			return -ENOMEM;
	}
	return line ? 0 : -ENOMEM;
}

static int print_table(const struct column *columns, const json_t *list)
{
	struct libscols_table *t;
	int r = 0;

	if (json_array_size(list) == 0)
		return 0;
	t = scols_new_table();
	if (!t)
		return -ENOMEM;
	for (size_t i = 0; columns[i].title && r == 0; i++)
		r = scols_table_new_column(t, columns[i].title, 0,
					   columns[i].right ? SCOLS_FL_RIGHT : 0)
			    ? 0
			    : -ENOMEM;
	for (size_t i = 0; i < json_array_size(list) && r == 0; i++)
		r = add_row(t, columns, json_array_get(list, i));
	if (r == 0)
		scols_print_table(t);
	scols_unref_table(t);
	return r;
}

static void print_aliases(const json_t *list)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *a = json_array_get(list, i), *chain = json_object_get(a, "chain");

		printf("%salias %s:", i ? "" : "\n", jx_str(json_object_get(a, "name"), NULL));
		for (size_t k = 0; k < json_array_size(chain); k++) {
			const json_t *step = json_array_get(chain, k);

			printf("%s %s %s", k ? ", then" : "",
			       jx_str(json_object_get(step, "kind"), NULL),
			       jx_str(json_object_get(step, "name"), NULL));
		}
		putchar('\n');
	}
}

static void print_head(const json_t *v)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;

	buf_puts(&b, "router ");
	put_value(v, "version", &b);
	buf_puts(&b, json_is_true(json_object_get(v, "draining")) ? ", stopping" : "");
	buf_puts(&b, ", up ");
	put_value(v, "up_s", &b);
	buf_puts(&b, " s, ");
	put_value(v, "requests", &b);
	buf_puts(&b, " requests under way, ");
	put_value(v, "connections", &b);
	buf_puts(&b, " connections");
	puts(buf_ok(&b) ? b.p : "");
}

int ctl_status(const struct ctl *c, char **argv, struct err *e)
{
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	JX_OWNED json_t *v = NULL;
	int r = ctl_request(c, "/admin/status", NULL, &text, NULL, NULL, e);

	(void)argv;
	if (r < 0)
		return r;
	if (c->json) {
		puts(text.n ? text.p : "");
		return 0;
	}
	r = jx_load(text.n ? text.p : "", text.n, &v, e);
	if (r < 0)
		return err_prefix(e, r, "the router's status");
	print_head(v);
	if (json_array_size(json_object_get(v, "workers")) == 0)
		puts("no worker is connected");
	r = print_table(worker_columns, json_object_get(v, "workers"));
	for (size_t i = 0; i < json_array_size(json_object_get(v, "boxes")) && r == 0; i++)
		r = print_table(model_columns,
				json_object_get(json_array_get(json_object_get(v, "boxes"), i),
						"models"));
	if (r == 0)
		r = print_table(upstream_columns, json_object_get(v, "upstreams"));
	if (r < 0)
		return err_set(e, r, "out of memory");
	print_aliases(json_object_get(v, "aliases"));
	return 0;
}
