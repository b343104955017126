/* status.c - `hearthctl status`: the router's own view as tables. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"
#include "ctl/table.h"
#include "lib/json.h"
#include "lib/own.h"

static const struct ctl_column worker_columns[] = {
	{ "WORKER", "name", false }, { "MODEL", "model", false }, { "STATE", "state", false },
	{ "RUNNING", "running/max_running", true }, { "WAITING", "waiting/max_queue", true },
	{ "BLOCKS FREE", "free_blocks/total_blocks", true }, { "TOK/S", "decode_tokens_s", true },
	{ "TOKENS", "output_tokens", true }, { "UP S", "up_s", true }, { NULL, NULL, false },
};
static const struct ctl_column model_columns[] = {
	{ "BOX", "box", false }, { "MODEL", "alias", false }, { "STATE", "state", false },
	{ "LOADED %", "progress", true }, { "READY IN MS", "ready_ms", true },
	{ "IDLE S", "idle_s", true }, { "TTL S", "ttl_s", true }, { "FAILURES", "failures", true },
	{ "PIN", "pinned", false }, { "DRAINED", "drained", false }, { "WHY", "reason", false },
	{ NULL, NULL, false },
};
static const struct ctl_column upstream_columns[] = {
	{"UPSTREAM", "name", false},
	{"STATE", "state", false},
	{"IN FLIGHT", "in_flight", true},
	{"REQUESTS", "requests", true},
	{"FAILURES", "failures", true},
	{"URL", "url", false},
	{NULL, NULL, false},
};

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
	ctl_put_value(v, "version", &b);
	buf_puts(&b, json_is_true(json_object_get(v, "draining")) ? ", stopping" : "");
	buf_puts(&b, ", up ");
	ctl_put_value(v, "up_s", &b);
	buf_puts(&b, " s, ");
	ctl_put_value(v, "requests", &b);
	buf_puts(&b, " requests under way, ");
	ctl_put_value(v, "connections", &b);
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
	r = ctl_print_table(worker_columns, json_object_get(v, "workers"));
	for (size_t i = 0; i < json_array_size(json_object_get(v, "boxes")) && r == 0; i++)
		r = ctl_print_table(model_columns,
				json_object_get(json_array_get(json_object_get(v, "boxes"), i),
						"models"));
	if (r == 0)
		r = ctl_print_table(upstream_columns, json_object_get(v, "upstreams"));
	if (r < 0)
		return err_set(e, r, "out of memory");
	print_aliases(json_object_get(v, "aliases"));
	return 0;
}
