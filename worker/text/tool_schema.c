/* tool_schema.c - see tool_schema.h. */
#include "worker/text/tool_schema.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/own.h"

#define MAX_DEPTH   64
#define MAX_WORK    (1 << 18)	/* items of lists looked at */
#define SCHEMA_WORK 64		/* what a schema counts as */

struct walk {
	const json_t *root;
	const json_t *path[MAX_DEPTH];	/* the schemas we are inside of */
	int depth;
	int work;
};

/* A member by a name that may hold any byte; jansson's keys end at U+0000. */
static const json_t *member(const json_t *object, const char *key, size_t n)
{
	CLEANUP(freep) char *name = NULL;

	if (!json_is_object(object) || (n && memchr(key, '\0', n)))
		return NULL;
	name = strndup(n ? key : "", n);
	return name ? json_object_get(object, name) : NULL;
}

static bool str_is(const json_t *v, const char *s, size_t n)
{
	size_t n_v;
	const char *p = jx_str(v, &n_v);

	return p && n_v == n && (n == 0 || !memcmp(p, s, n));
}

const json_t *tool_schema_find(const json_t *tools, const char *name, size_t n)
{
	for (size_t i = 0; i < json_array_size(tools); i++) {
		const json_t *tool = json_array_get(tools, i);
		const json_t *function = json_object_get(tool, "function");
		const json_t *at = json_is_object(function) ? function : tool;

		if (str_is(json_object_get(at, "name"), name, n))
			return json_object_get(at, "parameters");
	}
	return NULL;
}

/* One step of a JSON pointer: `n` bytes between slashes, with ~0, ~1 and %XX. */
static const json_t *step(const json_t *at, const char *s, size_t n)
{
	CLEANUP(buf_donep) struct buf key = BUF_INIT;
	char *end, hex[3] = "";
	unsigned long i;

	buf_put(&key, "", 0);
	for (size_t k = 0; k < n; k++) {
		if (s[k] == '%' && k + 2 < n && isxdigit((unsigned char)s[k + 1]) &&
		    isxdigit((unsigned char)s[k + 2])) {
			memcpy(hex, s + k + 1, 2);
			buf_putc(&key, (char)strtoul(hex, NULL, 16));
			k += 2;
		} else if (s[k] == '~' && k + 1 < n && (s[k + 1] == '0' || s[k + 1] == '1')) {
			buf_putc(&key, s[++k] == '0' ? '~' : '/');
		} else {
			buf_putc(&key, s[k]);
		}
	}
	if (!buf_ok(&key) || !json_is_array(at))
		return buf_ok(&key) ? member(at, key.p, key.n) : NULL;
	i = strtoul(key.p, &end, 10);
	return end != key.p && !*end ? json_array_get(at, i) : NULL;
}

/* "#", "#/a/b"; anything else points outside. */
static const json_t *follow(const json_t *root, const json_t *ref)
{
	size_t n;
	const char *s = jx_str(ref, &n);
	const char *end = s ? s + n : NULL;

	if (!s || n == 0 || s[0] != '#' || (n > 1 && s[1] != '/'))
		return NULL;
	for (s++; root && s < end;) {
		const char *from = ++s;

		while (s < end && *s != '/')
			s++;
		root = step(root, from, (size_t)(s - from));
	}
	return root;
}

static bool one_of(const char *name, const char *const *list)
{
	for (; *list; list++)
		if (!strcasecmp(name, *list))
			return true;
	return false;
}

static bool begins_with_one_of(const char *name, const char *const *list)
{
	for (; *list; list++)
		if (!strncasecmp(name, *list, strlen(*list)))
			return true;
	return false;
}

static unsigned named_type(const json_t *v)
{
	static const char *const integers[] = { "int", "uint", "long", "short", "unsigned", NULL };
	static const char *const numbers[] = { "num", "float", NULL };
	static const char *const booleans[] = { "boolean", "bool", "binary", NULL };
	const char *name = jx_str(v, NULL);

	if (json_is_null(v))
		return TOOL_NULL;
	if (!name)
		return 0;
	if (!strcasecmp(name, "null"))
		return TOOL_NULL;
	if (begins_with_one_of(name, integers))
		return TOOL_INTEGER;
	if (begins_with_one_of(name, numbers))
		return TOOL_NUMBER;
	if (one_of(name, booleans))
		return TOOL_BOOLEAN;
	if (!strcasecmp(name, "object") || !strncasecmp(name, "dict", 4))
		return TOOL_OBJECT;
	if (one_of(name, (const char *const[]){ "array", "arr", NULL }) ||
	    !strncasecmp(name, "list", 4))
		return TOOL_ARRAY;
	return TOOL_STRING;	/* the names of string, and names we do not know */
}

static unsigned value_type(const json_t *v)
{
	if (jx_is_num(v))
		return jx_is_int(v) ? TOOL_INTEGER : TOOL_NUMBER;
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return TOOL_OBJECT;
	case JSON_ARRAY:
		return TOOL_ARRAY;
	case JSON_TRUE:
	case JSON_FALSE:
		return TOOL_BOOLEAN;
	case JSON_NULL:
		return TOOL_NULL;
	default:
		return TOOL_STRING;
	}
}

static unsigned for_each(struct walk *w, const json_t *list, unsigned (*type)(const json_t *))
{
	unsigned types = 0;

	for (size_t i = 0; i < json_array_size(list) && w->work++ < MAX_WORK; i++)
		types |= type(json_array_get(list, i));
	return types;
}

/* What is in both, an integer being a number. */
static unsigned narrow(unsigned a, unsigned b)
{
	unsigned both = a & b;

	if (((a & TOOL_INTEGER) && (b & TOOL_NUMBER)) || ((b & TOOL_INTEGER) && (a & TOOL_NUMBER)))
		both |= TOOL_INTEGER;
	return both;
}

/* A schema inside itself adds nothing to what it says already. */
static bool enter(struct walk *w, const json_t *schema)
{
	w->work += SCHEMA_WORK;
	if (!json_is_object(schema) || w->depth == MAX_DEPTH || w->work > MAX_WORK)
		return false;
	for (int i = 0; i < w->depth; i++)
		if (w->path[i] == schema)
			return false;
	w->path[w->depth++] = schema;
	return true;
}

static unsigned types_of(struct walk *w, const json_t *schema);

static unsigned types_of_any(struct walk *w, const json_t *list)
{
	unsigned types = 0;

	for (size_t i = 0; i < json_array_size(list) && w->work < MAX_WORK; i++)
		types |= types_of(w, json_array_get(list, i));
	return types;
}

/* A branch without a type narrows nothing. */
static unsigned narrow_by_all(struct walk *w, unsigned types, const json_t *list)
{
	bool any = types != 0;

	for (size_t i = 0; i < json_array_size(list) && w->work < MAX_WORK; i++) {
		unsigned branch = types_of(w, json_array_get(list, i));

		if (branch)
			types = any ? narrow(types, branch) : branch;
		any |= branch != 0;
	}
	return types;
}

/* 0: no type. */
static unsigned types_of(struct walk *w, const json_t *schema)
{
	const json_t *type = json_object_get(schema, "type");
	const json_t *constant = json_object_get(schema, "const");
	unsigned types;

	if (!enter(w, schema))
		return 0;
	types = json_is_array(type) ? for_each(w, type, named_type) : named_type(type);
	types |= types_of_any(w, json_object_get(schema, "anyOf"));
	types |= types_of_any(w, json_object_get(schema, "oneOf"));
	types |= for_each(w, json_object_get(schema, "enum"), value_type);
	types |= constant ? value_type(constant) : 0;
	types |= types_of(w, follow(w->root, json_object_get(schema, "$ref")));
	types = narrow_by_all(w, types, json_object_get(schema, "allOf"));
	if (json_is_true(json_object_get(schema, "nullable")))
		types |= TOOL_NULL;
	w->depth--;
	return types;
}

struct tool_param tool_schema_param(const json_t *root, const char *key, size_t n)
{
	const json_t *at = root;
	struct tool_param p = { .root = root };
	struct walk w = { .root = root };

	for (int i = 0; i < MAX_DEPTH && at && !json_object_get(at, "properties"); i++)
		at = follow(root, json_object_get(at, "$ref"));
	p.schema = member(json_object_get(at, "properties"), key, n);
	p.types = types_of(&w, p.schema);
	if (!p.types)
		p.types = TOOL_STRING;
	return p;
}

static bool lists(struct walk *w, const json_t *schema, const char *s, size_t n)
{
	static const char *const branches[] = { "anyOf", "oneOf", "allOf" };
	const json_t *values = json_object_get(schema, "enum");
	bool found;

	if (!enter(w, schema))
		return false;
	found = str_is(json_object_get(schema, "const"), s, n);
	for (size_t i = 0; !found && i < json_array_size(values) && w->work++ < MAX_WORK; i++)
		found = str_is(json_array_get(values, i), s, n);
	for (size_t b = 0; !found && b < 3; b++) {
		const json_t *list = json_object_get(schema, branches[b]);

		for (size_t i = 0; !found && i < json_array_size(list) && w->work < MAX_WORK; i++)
			found = lists(w, json_array_get(list, i), s, n);
	}
	found = found || lists(w, follow(w->root, json_object_get(schema, "$ref")), s, n);
	w->depth--;
	return found;
}

bool tool_schema_lists(const struct tool_param *p, const char *s, size_t n)
{
	struct walk w = { .root = p->root };

	return lists(&w, p->schema, s, n);
}
