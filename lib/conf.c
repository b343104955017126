/* conf.c - see conf.h: the values, set and asked for. */
#include "lib/conf.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/conf_int.h"
#include "lib/own.h"

struct conf *conf_free(struct conf *c)
{
	if (!c)
		return NULL;
	for (size_t i = 0; i < c->n_values; i++) {
		free(c->values[i].name);
		free(c->values[i].text);
	}
	for (size_t i = 0; i < c->n_names; i++)
		free(c->names[i].name);
	free(c->values);
	free(c->names);
	free(c);
	return NULL;
}

const struct conf_section *conf_find_section(const struct conf_table *t, const char *header,
					     const char **ret_name)
{
	for (const struct conf_section *s = t->sections; s->name; s++) {
		size_t n = strlen(s->name);

		*ret_name = NULL;
		if (!s->named && str_eq(header, s->name))
			return s;
		if (s->named && !strncmp(header, s->name, n) && header[n] == ' ') {
			*ret_name = header + n + strspn(header + n, " ");
			if (**ret_name)
				return s;
		}
	}
	return NULL;
}

static const struct conf_key *find_key(const struct conf_table *t, const char *section,
				       const char *key)
{
	for (const struct conf_key *k = t->keys; k->key; k++)
		if (str_eq(k->section, section) && str_eq(k->key, key))
			return k;
	return NULL;
}

struct conf_value *conf_find_value(const struct conf *c, const struct conf_key *k, const char *name)
{
	for (size_t i = 0; i < c->n_values; i++)
		if (c->values[i].key == k && str_eq(c->values[i].name, name))
			return &c->values[i];
	return NULL;
}

int conf_add_name(struct conf *c, const char *section, const char *name)
{
	void *p;

	for (size_t i = 0; i < c->n_names; i++)
		if (str_eq(c->names[i].section, section) && str_eq(c->names[i].name, name))
			return 0;
	p = realloc(c->names, (c->n_names + 1) * sizeof(*c->names));
	if (!p)
		return -ENOMEM;
	c->names = p;
	c->names[c->n_names].section = section;
	c->names[c->n_names].name = strdup(name);
	if (!c->names[c->n_names].name)
		return -ENOMEM;
	c->n_names++;
	return 0;
}

static int set_value(struct conf *c, const struct conf_key *k, const char *name, const char *text,
		     int line)
{
	struct conf_value *v = conf_find_value(c, k, name);
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	if (v) {
		free(v->text);
		v->text = copy;
		v->file = c->n_files;
		v->line = line;
		return 0;
	}
	v = realloc(c->values, (c->n_values + 1) * sizeof(*v));
	if (!v) {
		free(copy);
		return -ENOMEM;
	}
	c->values = v;
	v += c->n_values;
	*v = (struct conf_value){ .key = k, .name = name ? strdup(name) : NULL, .text = copy,
				  .file = c->n_files, .line = line };
	if (name && !v->name) {
		free(copy);
		return -ENOMEM;
	}
	c->n_values++;
	return 0;
}

int conf_assign(struct conf *c, const char *header, const char *key, const char *text, int line,
		bool continued, struct err *e)
{
	CLEANUP(freep) char *joined = NULL;
	const char *name;
	const struct conf_section *s = conf_find_section(c->table, header, &name);
	const struct conf_key *k;
	struct conf_value *v;
	int r;

	if (!s)
		return err_set(e, -EINVAL, "unknown section [%.60s]", header);
	k = find_key(c->table, s->name, key);
	if (!k)
		return err_set(e, -EINVAL, "unknown key '%.60s' in [%s]", key, s->name);
	v = conf_find_value(c, k, name);
	if (v && line && !continued && v->file == c->n_files)
		return err_set(e, -EINVAL, "%s: again in [%.60s], line %d has it already", key,
			       header, v->line);
	if (continued && v) {
		if (k->type != CONF_TEXT)
			return err_set(e, -EINVAL, "%s: a second line", key);
		if (asprintf(&joined, "%s %s", v->text, text) < 0)
			return -ENOMEM;
		text = joined;
	}
	r = conf_check_value(k, text, e);
	if (r < 0)
		return r;
	if (name && conf_add_name(c, s->name, name) < 0)
		return -ENOMEM;
	return set_value(c, k, name, text, continued && v ? v->line : line);
}

int conf_override(struct conf *c, const char *assignment, struct err *e)
{
	CLEANUP(freep) char *copy = strdup(assignment);
	char *eq, *dot;
	int r;

	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	eq = strchr(copy, '=');
	if (eq)
		*eq = '\0';
	dot = eq ? strrchr(copy, '.') : NULL;
	if (!dot)
		return err_set(e, -EINVAL, "'%s': write section.key=value", assignment);
	*dot = '\0';
	r = conf_assign(c, copy, dot + 1, eq + 1, 0, false, e);
	return r < 0 ? err_prefix(e, r, "'%s'", assignment) : 0;
}

static const char *get(const struct conf *c, const char *section, const char *name,
		       const char *key)
{
	const struct conf_key *k = find_key(c->table, section, key);
	const struct conf_value *v;

	assert(k);
	v = conf_find_value(c, k, name);
	return v ? v->text : k->def;
}

bool conf_bool(const struct conf *c, const char *section, const char *name, const char *key)
{
	const char *s = get(c, section, name, key);
	bool b = false;

	assert(s && conf_parse_bool(s, &b) == 0);
	return b;
}

int64_t conf_int(const struct conf *c, const char *section, const char *name, const char *key)
{
	const char *s = get(c, section, name, key);
	int64_t x = 0;

	assert(s && conf_parse_int(s, &x) == 0);
	return x;
}

const char *conf_text(const struct conf *c, const char *section, const char *name,
		      const char *key)
{
	return get(c, section, name, key);
}

const char *conf_name(const struct conf *c, const char *section, size_t i)
{
	for (size_t k = 0; k < c->n_names; k++)
		if (str_eq(c->names[k].section, section) && i-- == 0)
			return c->names[k].name;
	return NULL;
}
