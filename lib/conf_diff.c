/* conf_diff.c - all values of one configuration, and what is not the same in two. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/conf_int.h"
#include "lib/own.h"

static int note_changes(const struct conf *a, const struct conf *b, struct buf *out)
{
	for (size_t i = 0; i < a->n_values; i++) {
		const struct conf_value *v = &a->values[i];
		const struct conf_value *w = conf_find_value(b, v->key, v->name);
		const char *other = w ? w->text : v->key->def;
		CLEANUP(freep) char *line = NULL;

		if (v->key->reload || str_eq(v->text, other))
			continue;
		if (asprintf(&line, "%s%s%s.%s", v->key->section, v->name ? " " : "",
			     v->name ? v->name : "", v->key->key) < 0)
			return -ENOMEM;
		if (out->p && strstr(out->p, line))
			continue;	/* seen from the other side */
		buf_printf(out, "%s%s", out->n ? ", " : "", line);
	}
	return buf_ok(out) ? 0 : -ENOMEM;
}

int conf_needs_restart(const struct conf *was, const struct conf *now, struct buf *out)
{
	int r = note_changes(was, now, out);

	return r < 0 ? r : note_changes(now, was, out);
}

void conf_diff(const struct conf *was, const struct conf *now, conf_see_fn *see, void *arg)
{
	for (size_t i = 0; i < was->n_values; i++) {
		const struct conf_value *v = &was->values[i],
					*w = conf_find_value(now, v->key, v->name);
		const char *text = w ? w->text : v->key->def;

		if (!str_eq(v->text, text))
			see(arg, v->key, v->name, v->text, text);
	}
	for (size_t i = 0; i < now->n_values; i++) {
		const struct conf_value *v = &now->values[i];

		if (!conf_find_value(was, v->key, v->name) && !str_eq(v->text, v->key->def))
			see(arg, v->key, v->name, v->key->def, v->text);
	}
}

static void each_of(const struct conf *c, const struct conf_section *s, const char *name,
		    conf_see_fn *see, void *arg)
{
	for (const struct conf_key *k = c->table->keys; k->key; k++) {
		const struct conf_value *v =
			str_eq(k->section, s->name) ? conf_find_value(c, k, name) : NULL;

		if (str_eq(k->section, s->name))
			see(arg, k, name, k->def, v ? v->text : k->def);
	}
}

void conf_each(const struct conf *c, conf_see_fn *see, void *arg)
{
	for (const struct conf_section *s = c->table->sections; s->name; s++) {
		const char *name;

		if (!s->named)
			each_of(c, s, NULL, see, arg);
		for (size_t i = 0; s->named && (name = conf_name(c, s->name, i)); i++)
			each_of(c, s, name, see, arg);
	}
}
