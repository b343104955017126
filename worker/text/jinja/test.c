/* test.c - what may stand behind `is`, and the look-up of filters and tests. */
#include <string.h>

#include "worker/text/jinja/filter.h"

static jinja_fn find(const struct filter *table, const char *name)
{
	for (; table->name; table++)
		if (!strcmp(table->name, name))
			return table->call;
	return NULL;
}

jinja_fn jinja_filter(const char *name)
{
	jinja_fn fn = find(text_filters, name);

	return fn ? fn : find(seq_filters, name);
}

/* A test of the value alone. */
#define TEST_OF(name, condition)                                                            \
	static struct value t_##name(struct run *r, struct value self, const struct args *a) \
	{                                                                                   \
		bind_args(r, a, "test_" #name, 0, "", NULL);                                \
		return v_bool(condition);                                                   \
	}

TEST_OF(defined, self.kind != V_UNDEFINED)
TEST_OF(undefined, self.kind == V_UNDEFINED)
TEST_OF(none, self.kind == V_NONE)
TEST_OF(boolean, self.kind == V_BOOL)
TEST_OF(true, self.kind == V_BOOL && self.b)
TEST_OF(false, self.kind == V_BOOL && !self.b)
TEST_OF(integer, self.kind == V_INT || self.kind == V_BIG)
TEST_OF(float, self.kind == V_FLOAT)
TEST_OF(number, v_is_number(self))
TEST_OF(string, self.kind == V_STR)
TEST_OF(mapping, self.kind == V_DICT)
TEST_OF(iterable, is_iterable(self) || self.kind == V_LOOP)
TEST_OF(sequence, is_iterable(self) && self.kind != V_VIEW && self.kind != V_GENERATOR)
TEST_OF(callable, self.kind == V_FUNCTION || self.kind == V_MACRO || self.kind == V_LOOP ||
		  self.kind == V_JOINER || self.kind == V_UNDEFINED)
TEST_OF(escaped, self.kind == V_STR && self.s->safe)
TEST_OF(lower, is_in_case(r, v_to_str(&r->j, self), false))
TEST_OF(upper, is_in_case(r, v_to_str(&r->j, self), true))
TEST_OF(odd, v_eq(&r->j, arithmetic(r, N_MOD, self, v_int(2)), v_int(1)))
TEST_OF(even, v_eq(&r->j, arithmetic(r, N_MOD, self, v_int(2)), v_int(0)))
TEST_OF(filter, self.kind == V_STR && jinja_filter(str_text(&r->j, self.s)) != NULL)
TEST_OF(test, self.kind == V_STR && jinja_test(str_text(&r->j, self.s)) != NULL)

/* A test against one other value. */
#define TEST_WITH(name, condition)                                                          \
	static struct value t_##name(struct run *r, struct value self, const struct args *a) \
	{                                                                                   \
		struct value other;                                                         \
                                                                                            \
		bind_args(r, a, "test_" #name, 1, "other", &other);                         \
		return v_bool(condition);                                                   \
	}

static bool same_object(struct value a, struct value b)
{
	if (a.kind != b.kind)
		return false;
	return a.kind == V_NONE || (a.kind == V_BOOL ? a.b == b.b : a.i == b.i);
}

/* NaN answers 2 and is in no order. */
static bool is_less(struct run *r, struct value a, struct value b, const char *op)
{
	return v_compare(&r->j, a, b, op) < 0;
}

static bool is_more(struct run *r, struct value a, struct value b, const char *op)
{
	return v_compare(&r->j, a, b, op) == 1;
}

TEST_WITH(eq, v_eq(&r->j, self, other))
TEST_WITH(ne, !v_eq(&r->j, self, other))
TEST_WITH(lt, is_less(r, self, other, "<"))
TEST_WITH(le, is_less(r, self, other, "<=") || v_eq(&r->j, self, other))
TEST_WITH(gt, is_more(r, self, other, ">"))
TEST_WITH(ge, is_more(r, self, other, ">=") || v_eq(&r->j, self, other))
TEST_WITH(in, contains(r, other, self))
TEST_WITH(sameas, same_object(self, other))

static struct value t_divisibleby(struct run *r, struct value self, const struct args *a)
{
	struct value v[1];

	bind_args(r, a, "test_divisibleby", 1, "num", v);
	return v_bool(v_eq(&r->j, arithmetic(r, N_MOD, self, v[0]), v_int(0)));
}

static const struct filter tests[] = {
	{ "odd", t_odd }, { "even", t_even }, { "divisibleby", t_divisibleby },
	{ "defined", t_defined }, { "undefined", t_undefined }, { "filter", t_filter },
	{ "test", t_test }, { "none", t_none }, { "boolean", t_boolean }, { "false", t_false },
	{ "true", t_true }, { "integer", t_integer }, { "float", t_float }, { "lower", t_lower },
	{ "upper", t_upper }, { "string", t_string }, { "mapping", t_mapping },
	{ "number", t_number }, { "sequence", t_sequence }, { "iterable", t_iterable },
	{ "callable", t_callable }, { "sameas", t_sameas }, { "escaped", t_escaped },
	{ "in", t_in }, { "==", t_eq }, { "eq", t_eq }, { "equalto", t_eq }, { "!=", t_ne },
	{ "ne", t_ne }, { ">", t_gt }, { "gt", t_gt }, { "greaterthan", t_gt }, { "ge", t_ge },
	{ ">=", t_ge }, { "<", t_lt }, { "lt", t_lt }, { "lessthan", t_lt }, { "<=", t_le },
	{ "le", t_le }, { NULL, NULL },
};

jinja_fn jinja_test(const char *name)
{
	return find(tests, name);
}
