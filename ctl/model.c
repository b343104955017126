/* model.c - `hearthctl load | unload | drain | undrain`: what a box is to do with a model. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/table.h"
#include "lib/json.h"
#include "lib/own.h"

enum { LOOK_MS = 300 };

static void put_member(struct buf *b, const char *name, const char *value)
{
	buf_printf(b, "%s\"%s\":", b->n > 1 ? "," : "", name);
	jx_put_str(b, value, strlen(value));
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = jx_str(json_object_get(o, key), NULL);

	return s ? s : "";
}

/* The row of this model; NULL: no box has it any more. */
static const json_t *find_model(const struct ctl *c, const json_t *status, const char *alias)
{
	const json_t *boxes = json_object_get(status, "boxes");

	for (size_t i = 0; i < json_array_size(boxes); i++) {
		const json_t *box = json_array_get(boxes, i),
			     *models = json_object_get(box, "models");

		if (c->box && strcmp(c->box, text_of(box, "name")) != 0)
			continue;
		for (size_t k = 0; k < json_array_size(models); k++)
			if (!strcmp(text_of(json_array_get(models, k), "alias"), alias))
				return json_array_get(models, k);
	}
	return NULL;
}

static void show_progress(const struct ctl *c, const char *alias, const json_t *m)
{
	const char *permille = jx_num(json_object_get(m, "progress"));

	if (!c->color || c->json)
		return;
	printf("\r\033[K%s: %s%s%s%s", alias, text_of(m, "state"), permille ? " " : "",
	       permille ? permille : "", permille ? " %" : "");
	fflush(stdout);
}

/* Looks until it is ready, or will not be. */
static int wait_ready(const struct ctl *c, const char *alias, struct err *e)
{
	for (;;) {
		JX_OWNED json_t *v = NULL;
		const json_t *m;
		const char *state;
		int r = ctl_ask(c, "/admin/status", NULL, NULL, &v, e);

		if (r < 0)
			return r;
		m = find_model(c, v, alias);
		state = text_of(m, "state");
		if (!strcmp(state, "ready")) {
			if (c->json)
				return ctl_print_json(m) < 0 ? err_set(e, -ENOMEM, "out of memory")
							     : 0;
			printf("%s%s: ready\n", c->color ? "\r\033[K" : "", alias);
			return 0;
		}
		if (!m || !strcmp(state, "unloaded") || !strcmp(state, "quarantined"))
			return err_set(e, -EREMOTEIO, "%s is %s: %s", alias, m ? state : "gone",
				       text_of(m, "reason"));
		show_progress(c, alias, m);
		usleep(LOOK_MS * 1000);
	}
}

static int command(const struct ctl *c, const char *verb, const char *alias, struct err *e)
{
	CLEANUP(buf_donep) struct buf body = BUF_INIT;
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	JX_OWNED json_t *v = NULL;
	const char *message, *state;
	char path[40];
	int r;

	snprintf(path, sizeof(path), "/admin/%s", verb);
	buf_putc(&body, '{');
	put_member(&body, "alias", alias);
	if (c->box)
		put_member(&body, "box", c->box);
	if (buf_putc(&body, '}') < 0)
		return err_set(e, -ENOMEM, "out of memory");
	r = ctl_ask(c, path, &body, &text, &v, e);
	if (r < 0)
		return r;
	if (c->wait && !strcmp(verb, "load"))
		return wait_ready(c, alias, e);
	if (c->json) {
		puts(text.p);
		return 0;
	}
	message = text_of(v, "message");
	state = text_of(v, "text");
	printf("%s: %s\n", alias, *message ? message : *state ? state : "done");
	return 0;
}

int ctl_load(const struct ctl *c, char **argv, struct err *e)
{
	return command(c, "load", argv[0], e);
}

int ctl_unload(const struct ctl *c, char **argv, struct err *e)
{
	return command(c, "unload", argv[0], e);
}

int ctl_drain(const struct ctl *c, char **argv, struct err *e)
{
	return command(c, "drain", argv[0], e);
}

int ctl_undrain(const struct ctl *c, char **argv, struct err *e)
{
	return command(c, "undrain", argv[0], e);
}
