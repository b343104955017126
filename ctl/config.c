/* config.c - hearthctl config check | show | diff | reload. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/program.h"
#include "ctl/table.h"
#include "lib/own.h"

/* ---- check: by the program that will read the file ----------------------------------------- */

static int check_one(const struct ctl *c, const char *file, json_t *list, struct err *e)
{
	CLEANUP(buf_donep) struct buf said = BUF_INIT;
	json_t *o = json_object();
	int r = program_check_config(file, &said, e);

	if (r < 0) {
		json_decref(o);
		return r;
	}
	ctl_set_text(o, "file", file);
	json_object_set_new(o, "ok", json_boolean(r == 0));
	ctl_set_text(o, "problem", r ? (said.n ? said.p : "cannot be used") : NULL);
	json_array_append_new(list, o);
	if (!c->json) {
		printf("%s: ", file);
		ctl_print_safe(r ? (said.n ? said.p : "cannot be used") : "ok");
		putchar('\n');
	}
	return r;
}

int ctl_config_check(const struct ctl *c, char **argv, struct err *e)
{
	JX_OWNED json_t *list = json_array();
	char files[PROGRAM_MAX_CONFIG][PATH_MAX];
	size_t n = 0;
	int r, bad = 0;

	if (argv[0])
		snprintf(files[n++], PATH_MAX, "%s", argv[0]);
	else
		n = program_list_config(c->etc, files);
	if (!n)
		return err_set(e, -ESRCH, "%s: no configuration there", c->etc);
	for (size_t i = 0; i < n; i++) {
		r = check_one(c, files[i], list, e);
		if (r < 0)
			return r;
		bad |= r;
	}
	if (c->json && ctl_print_json(list) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	return bad ? EXIT_CONFIG : 0;
}

/* ---- what runs, what would change ------------------------------------------------------------ */

/* "alias fast.chain" */
static void name_rows(json_t *list)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		json_t *o = json_array_get(list, i);
		const char *name = jx_str(json_object_get(o, "name"), NULL);
		CLEANUP(buf_donep) struct buf b = BUF_INIT;

		buf_printf(&b, "%s%s%s.%s", ctl_text(o, "section"), name ? " " : "",
			   name ? name : "", ctl_text(o, "key"));
		ctl_set_text(o, "what", b.n ? b.p : "");
		ctl_set_text(o, "effect", json_is_true(json_object_get(o, "reload")) ? "reload" :
									 "restart");
		ctl_set_text(o, "origin", json_is_true(json_object_get(o, "default")) ?
			     "default" : "set");
	}
}

int ctl_config_show(const struct ctl *c, char **argv, struct err *e)
{
	static const struct ctl_column columns[] = {
		{"KEY", "what", false},	     {"VALUE", "value", false},
		{"ORIGIN", "origin", false}, {"CHANGES BY", "effect", false},
		{NULL, NULL, false},
	};
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	JX_OWNED json_t *v = NULL;
	json_t *list;
	int r = ctl_ask(c, "/admin/config", NULL, &text, &v, e);

	(void)argv;
	if (r < 0)
		return r;
	if (c->json) {
		puts(text.p);
		return 0;
	}
	list = json_object_get(v, "values");
	name_rows(list);
	return ctl_print_table(columns, list) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
}

static size_t print_names(const json_t *v, const char *key, const char *what)
{
	const json_t *list = json_object_get(v, key);

	for (size_t i = 0; i < json_array_size(list); i++)
		printf("%s %s\n", what, jx_str(json_array_get(list, i), NULL));
	return json_array_size(list);
}

static size_t print_roles(const json_t *list)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *o = json_array_get(list, i);

		printf("key with another role: %s (was %s, now %s)\n", ctl_text(o, "name"),
		       ctl_text(o, "was"), ctl_text(o, "now"));
	}
	return json_array_size(list);
}

static size_t print_diff(const json_t *v)
{
	static const struct ctl_column columns[] = {
		{ "KEY", "what", false }, { "RUNS WITH", "was", false },
		{ "THE FILES SAY", "now", false }, { "TAKES", "effect", false },
		{ NULL, NULL, false },
	};
	json_t *list = json_object_get(v, "changes");
	size_t n = json_array_size(list);

	name_rows(list);
	(void)ctl_print_table(columns, list);
	n += print_names(v, "keys_added", "key added:");
	n += print_names(v, "keys_removed", "key removed:");
	n += print_roles(json_object_get(v, "key_roles_changed"));
	n += print_names(v, "boxes_added", "box allowed:");
	n += print_names(v, "boxes_removed", "box no longer allowed:");
	return n + print_names(v, "upstream_keys_changed", "another key for upstream");
}

int ctl_config_diff(const struct ctl *c, char **argv, struct err *e)
{
	static const char *const lists[] = { "changes", "keys_added", "keys_removed",
					     "key_roles_changed", "boxes_added",
					     "boxes_removed", "upstream_keys_changed" };
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	JX_OWNED json_t *v = NULL;
	size_t n = 0;
	int r = ctl_ask(c, "/admin/config/diff", NULL, &text, &v, e);

	(void)argv;
	if (r < 0)
		return r;
	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
		n += json_array_size(json_object_get(v, lists[i]));
	if (c->json)
		puts(text.p);
	else if (!n)
		puts("no difference: the router runs with what the files say");
	else
		(void)print_diff(v);
	return n ? EXIT_FINDING : 0;
}

int ctl_config_reload(const struct ctl *c, char **argv, struct err *e)
{
	CLEANUP(buf_donep) struct buf body = BUF_INIT;
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	JX_OWNED json_t *v = NULL;
	int r = ctl_ask(c, "/admin/reload", buf_puts(&body, "{}") < 0 ? NULL : &body, &text, &v, e);

	(void)argv;
	if (r < 0)
		return r;
	if (c->json) {
		puts(text.p);
		return 0;
	}
	printf("configuration %lld is in effect\n", (long long)ctl_int(v, "generation"));
	if (*ctl_text(v, "needs_restart"))
		printf("a change of %s needs a restart\n", ctl_text(v, "needs_restart"));
	return 0;
}
