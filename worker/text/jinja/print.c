/* print.c - str(v) and repr(v) as Python writes them; see value.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "worker/text/jinja/chars.h"
#include "worker/text/jinja/loop.h"
#include "worker/text/jinja/value.h"

const char *str_text(struct jinja *j, struct str *s)
{
	char *p = jinja_alloc(j, s->n + 1, 1);

	memcpy(p, str_bytes(j, s), s->n);
	return p;
}

static struct str *float_str(struct jinja *j, struct value v)
{
	struct str_out o = STR_OUT(j);
	enum mark mark = v.data ? DATA : TEMPLATE;
	struct float_text t;

	if (isnan(v.f))
		str_out_puts(&o, "nan", mark);
	else if (isinf(v.f))
		str_out_puts(&o, v.f < 0 ? "-inf" : "inf", mark);
	else
		str_out_puts(&o, float_text(&t, v.f), mark);
	return str_out_done(&o);
}

static void repr_char(struct str_out *o, uint32_t c, char quote, enum mark mark)
{
	char text[16] = "";

	if (c == (unsigned char)quote || c == '\\')
		snprintf(text, sizeof(text), "\\%c", (char)c);
	else if (c == '\n' || c == '\r' || c == '\t')
		snprintf(text, sizeof(text), "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
	else if (char_is(c, CHAR_PRINTABLE))
		str_out_char(o, c, mark);
	else
		snprintf(text, sizeof(text), c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" :
			 "\\U%08x", (unsigned)c);
	str_out_puts(o, text, mark);
}

static void repr_str(struct str_out *o, struct str *s)
{
	const char *p = str_bytes(o->j, s);
	char quote = memchr(p, '\'', s->n) && !memchr(p, '"', s->n) ? '"' : '\'';
	uint32_t c;

	if (s->safe)
		str_out_puts(o, "Markup(", TEMPLATE);
	str_out_put(o, &quote, 1, TEMPLATE);
	for (size_t i = 0, n; i < s->n; i += n) {
		n = char_get(p + i, &c);
		repr_char(o, c, quote, s->marks ? (enum mark)s->marks[i] : s->mark);
	}
	str_out_put(o, &quote, 1, TEMPLATE);
	if (s->safe)
		str_out_puts(o, ")", TEMPLATE);
}

static void repr_items(struct str_out *o, const struct list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		if (i)
			str_out_puts(o, ", ", TEMPLATE);
		v_repr(o, l->v[i]);
	}
}

static void repr_dict(struct str_out *o, const struct dict *d)
{
	str_out_puts(o, "{", TEMPLATE);
	for (size_t i = 0; i < d->n; i++) {
		if (i)
			str_out_puts(o, ", ", TEMPLATE);
		v_repr(o, d->at[i].key);
		str_out_puts(o, ": ", TEMPLATE);
		v_repr(o, d->at[i].v);
	}
	str_out_puts(o, "}", TEMPLATE);
}

static void repr_list(struct str_out *o, struct value v)
{
	const char *open = v.kind == V_LIST ? "[" : v.kind == V_TUPLE ? "(" : "([";
	const char *close = v.kind == V_LIST ? "]" : v.kind == V_TUPLE ? ")" : "])";

	if (v.kind == V_RANGE) {
		str_out_puts(o, v.l->name, TEMPLATE);
		return;
	}
	if (v.kind == V_VIEW)
		str_out_puts(o, v.l->name, TEMPLATE);
	str_out_puts(o, open, TEMPLATE);
	repr_items(o, v.l);
	if (v.kind == V_TUPLE && v.l->n == 1)
		str_out_puts(o, ",", TEMPLATE);
	str_out_puts(o, close, TEMPLATE);
}

static void repr_object(struct str_out *o, struct value v)
{
	struct jinja *j = o->j;
	struct str *s;

	switch (v.kind) {
	case V_NAMESPACE:
		str_out_puts(o, "<Namespace ", TEMPLATE);
		repr_dict(o, v.d);
		str_out_puts(o, ">", TEMPLATE);
		return;
	case V_MACRO:
		s = v.m->node ? str_printf(j, TEMPLATE, "<Macro %s>", macro_name(j, v.m)) : NULL;
		break;
	case V_LOOP:
		s = str_printf(j, TEMPLATE, "<LoopContext %zu/%zu>", v.loop->index0 + 1,
			       loop_length(v.loop));
		break;
	case V_FUNCTION:
		s = str_printf(j, TEMPLATE, "<built-in method %s>", v.fn->name);
		break;
	default:
		s = str_printf(j, TEMPLATE, "<%s object>", v_type_name(v));
	}
	if (s)
		str_out_str(o, s);
}

void v_repr(struct str_out *o, struct value v)
{
	jinja_enter(o->j);
	jinja_work(o->j, 0);
	switch (v.kind) {
	case V_UNDEFINED:
		str_out_puts(o, "Undefined", TEMPLATE);
		break;
	case V_STR:
		repr_str(o, v.s);
		break;
	case V_LIST:
	case V_TUPLE:
	case V_RANGE:
	case V_VIEW:
		repr_list(o, v);
		break;
	case V_DICT:
		repr_dict(o, v.d);
		break;
	case V_NONE:
	case V_BOOL:
	case V_INT:
	case V_BIG:
	case V_FLOAT:
		str_out_str(o, v_to_str(o->j, v));
		break;
	default:
		repr_object(o, v);
	}
	jinja_leave(o->j);
}

struct str *v_to_str(struct jinja *j, struct value v)
{
	enum mark mark = v.data ? DATA : TEMPLATE;
	struct str_out o = STR_OUT(j);

	switch (v.kind) {
	case V_STR:
		return str_as_safe(j, v.s, false);
	case V_MISSING:
	case V_UNDEFINED:
		return str_empty(j);
	case V_NONE:
		return str_from(j, "None", mark);
	case V_BOOL:
		return str_from(j, v.b ? "True" : "False", mark);
	case V_INT:
		return str_printf(j, mark, "%lld", (long long)v.i);
	case V_BIG:
		return v.s;
	case V_FLOAT:
		return float_str(j, v);
	default:
		v_repr(&o, v);
		return str_out_done(&o);
	}
}

const char *v_repr_text(struct jinja *j, struct value v)
{
	struct str_out o = STR_OUT(j);

	v_repr(&o, v);
	return str_text(j, str_out_done(&o));
}
