/* json.c - from the request to values, and from values to JSON; see value.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/text/jinja/chars.h"
#include "worker/text/jinja/run.h"

/* ---- reading ---- */

static struct value number_from(struct jinja *j, const json_t *json)
{
	struct value v = { .data = true };
	const char *text = jx_num(json);
	int64_t i;

	if (!jx_is_int(json)) {
		v.kind = V_FLOAT;
		v.f = strtod(text, NULL);
	} else if (jx_int64(json, &i) == 0) {
		v.kind = V_INT;
		v.i = i;
	} else {
		v.kind = V_BIG;
		v.s = str_from(j, text, DATA);
	}
	return v;
}

static struct value dict_from(struct jinja *j, const json_t *json)
{
	json_t *o = (json_t *)(uintptr_t)json;	/* jansson's iterators take no const */
	struct dict *d = dict_new(j, json_object_size(json));
	const char *key;
	json_t *item;

	json_object_foreach(o, key, item)
		dict_push(j, d, v_str(str_from(j, key, DATA)), v_from_json(j, item));
	return v_dict(d);
}

static struct value list_from(struct jinja *j, const json_t *json)
{
	struct list *l = list_new(j, json_array_size(json));

	for (size_t i = 0; i < json_array_size(json); i++)
		list_push(j, l, v_from_json(j, json_array_get(json, i)));
	return v_list(l, V_LIST);
}

/* Depth: jansson allows 2048 levels, jinja_enter() fewer. */
struct value v_from_json(struct jinja *j, const json_t *json)
{
	struct value v = { .kind = V_NONE, .data = true };
	size_t n;
	const char *p;

	jinja_enter(j);
	switch (json_typeof(json)) {
	case JSON_OBJECT:
		v = dict_from(j, json);
		break;
	case JSON_ARRAY:
		v = list_from(j, json);
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		v.kind = V_BOOL;
		v.b = json_is_true(json);
		break;
	case JSON_STRING:
		p = jx_str(json, &n);
		v = p ? v_str(str_new(j, p, n, DATA)) : number_from(j, json);
		break;
	default:
		break;
	}
	jinja_leave(j);
	return v;
}

/* ---- writing ---- */

struct writer {
	struct str_out o;
	const struct json_style *style;
	size_t level;
};

static void put_escape(struct writer *w, uint32_t c, enum mark mark)
{
	static const char from[] = "\b\t\n\f\r\"\\", to[] = "btnfr\"\\";
	const char *at = c && c < 0x80 ? strchr(from, (int)c) : NULL;
	char text[16];

	if (at)
		snprintf(text, sizeof(text), "\\%c", to[at - from]);
	else if (c >= 0x10000)
		snprintf(text, sizeof(text), "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
			 0xdc00 + ((c - 0x10000) & 0x3ff));
	else
		snprintf(text, sizeof(text), "\\u%04x", c);
	str_out_puts(&w->o, text, mark);
}

static void put_str(struct writer *w, struct str *s)
{
	const char *p = str_bytes(w->o.j, s);
	size_t from = 0, at = 0;
	uint32_t c;

	str_out_puts(&w->o, "\"", s->mark);
	while (at < s->n) {
		size_t n = char_get(p + at, &c);

		if (c >= 0x20 && c != '"' && c != '\\' && (c < 0x7f || !w->style->ascii)) {
			at += n;
			continue;
		}
		str_out_str(&w->o, str_cut(w->o.j, s, from, at));
		put_escape(w, c, s->marks ? (enum mark)s->marks[at] : s->mark);
		at += n;
		from = at;
	}
	if (from < at)
		str_out_str(&w->o, str_cut(w->o.j, s, from, at));
	str_out_puts(&w->o, "\"", s->mark);
}

static void put_number(struct writer *w, struct value v)
{
	enum mark mark = v.data ? DATA : TEMPLATE;

	if (v.kind == V_FLOAT && !isfinite(v.f))
		str_out_puts(&w->o, isnan(v.f) ? "NaN" : v.f < 0 ? "-Infinity" : "Infinity", mark);
	else
		str_out_str(&w->o, v_to_str(w->o.j, v));
}

static void put_value(struct writer *w, struct value v);

static void new_line(struct writer *w)
{
	if (!w->style->indent)
		return;
	str_out_puts(&w->o, "\n", TEMPLATE);
	for (size_t i = 0; i < w->level; i++)
		str_out_str(&w->o, w->style->indent);
}

static void put_list(struct writer *w, const struct list *l)
{
	if (!l->n) {
		str_out_puts(&w->o, "[]", TEMPLATE);
		return;
	}
	str_out_puts(&w->o, "[", TEMPLATE);
	w->level++;
	for (size_t i = 0; i < l->n; i++) {
		if (i)
			str_out_str(&w->o, w->style->item_sep);
		new_line(w);
		put_value(w, l->v[i]);
	}
	w->level--;
	new_line(w);
	str_out_puts(&w->o, "]", TEMPLATE);
}

static void put_key(struct writer *w, struct value key)
{
	switch (key.kind) {
	case V_STR:
		put_str(w, key.s);
		return;
	case V_NONE:
	case V_BOOL:
	case V_INT:
	case V_BIG:
	case V_FLOAT:
		str_out_puts(&w->o, "\"", TEMPLATE);
		put_value(w, key);
		str_out_puts(&w->o, "\"", TEMPLATE);
		return;
	default:
		jinja_fail(w->o.j, "keys must be str, int, float, bool or None, not %s",
			   v_type_name(key));
	}
}

/* The pairs in the order they are written. */
static const struct pair *ordered(struct writer *w, const struct dict *d)
{
	struct jinja *j = w->o.j;
	struct pair *at = jinja_grow(j, d->at, d->n, d->n, sizeof(*at));

	/* sort_keys is rare and its dicts are small: by insertion, every step counted */
	for (size_t i = 1; w->style->sort_keys && i < d->n; i++) {
		struct pair p = at[i];
		size_t k = i;

		for (; k > 0 && v_compare(j, p.key, at[k - 1].key, "<") < 0; k--)
			at[k] = at[k - 1];
		at[k] = p;
	}
	return at;
}

static void put_dict(struct writer *w, const struct dict *d)
{
	const struct pair *at = ordered(w, d);

	if (!d->n) {
		str_out_puts(&w->o, "{}", TEMPLATE);
		return;
	}
	str_out_puts(&w->o, "{", TEMPLATE);
	w->level++;
	for (size_t i = 0; i < d->n; i++) {
		if (i)
			str_out_str(&w->o, w->style->item_sep);
		new_line(w);
		put_key(w, at[i].key);
		str_out_str(&w->o, w->style->key_sep);
		put_value(w, at[i].v);
	}
	w->level--;
	new_line(w);
	str_out_puts(&w->o, "}", TEMPLATE);
}

static void put_value(struct writer *w, struct value v)
{
	enum mark mark = v.data ? DATA : TEMPLATE;

	jinja_enter(w->o.j);
	jinja_work(w->o.j, 0);
	switch (v.kind) {
	case V_NONE:
		str_out_puts(&w->o, "null", mark);
		break;
	case V_BOOL:
		str_out_puts(&w->o, v.b ? "true" : "false", mark);
		break;
	case V_INT:
	case V_BIG:
	case V_FLOAT:
		put_number(w, v);
		break;
	case V_STR:
		put_str(w, v.s);
		break;
	case V_LIST:
	case V_TUPLE:
		put_list(w, v.l);
		break;
	case V_DICT:
		put_dict(w, v.d);
		break;
	default:
		jinja_fail(w->o.j, "Object of type %s is not JSON serializable", v_type_name(v));
	}
	jinja_leave(w->o.j);
}

struct str *v_to_json(struct jinja *j, struct value v, const struct json_style *style)
{
	struct writer w = { .o = STR_OUT(j), .style = style };

	put_value(&w, v);
	return str_out_done(&w.o);
}
