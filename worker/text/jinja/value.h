/* value.h - what an expression of a template can be: Python's values, as far as
 * chat templates meet them.
 *
 * A value is 16 bytes and passed by value; what it points to lies in the arena.  Lists,
 * tuples and dicts never change once they are made (the sandbox of the reference
 * refuses append, update and the like), so sharing is safe; only a namespace changes.
 *
 * `data` says that a number, a boolean or None came from the request: its digits
 * are marked DATA when it is printed.  Strings carry their own marks.
 */
#ifndef HEARTH_WORKER_TEXT_JINJA_VALUE_H
#define HEARTH_WORKER_TEXT_JINJA_VALUE_H

#include "lib/json.h"
#include "worker/text/jinja/str.h"

enum kind {
	V_MISSING,	/* no value at all: an argument that was not given */
	V_UNDEFINED,
	V_NONE,
	V_BOOL,
	V_INT,
	V_BIG,		/* an integer beyond 64 bits, as digits: passed on, not computed with */
	V_FLOAT,
	V_STR,
	V_LIST,
	V_TUPLE,
	V_DICT,
	V_RANGE,	/* a list of integers that prints as range(a, b) */
	V_VIEW,		/* keys(), values(), items() of a dict */
	V_GENERATOR,	/* what map, select and items answer: can be walked once */
	V_NAMESPACE,
	V_MACRO,
	V_LOOP,
	V_FUNCTION,	/* a global or a bound method */
	V_CYCLER,
	V_JOINER,
	V_N_KINDS,
};

struct value {
	uint8_t kind;		/* enum kind */
	bool data;
	union {
		bool b;
		int64_t i;
		double f;
		struct str *s;		/* V_STR; V_BIG: its digits */
		struct list *l;		/* V_LIST, V_TUPLE, V_RANGE, V_VIEW */
		struct dict *d;		/* V_DICT, V_NAMESPACE */
		struct undefined *u;
		struct generator *g;
		struct macro *m;
		struct loop *loop;
		struct function *fn;
		struct cycler *cycler;
		struct joiner *joiner;
	};
};

struct list {
	struct value *v;
	size_t n, cap;
	const char *name;	/* of a view: "dict_keys"; of a range: how it prints */
};

struct pair {
	struct value key, v;
};

struct dict {
	struct pair *at;
	size_t n, cap;
	uint32_t *sorted;	/* indexes of the pairs by key; NULL: search in line */
};

/* Why there is no value: a hint, or the name that was looked for, in `obj` unless
 * that is V_MISSING. */
struct undefined {
	const char *hint;
	struct value obj, name;
};

struct run;
struct args;
typedef struct value (*jinja_fn)(struct run *r, struct value self, const struct args *a);

struct function {
	jinja_fn call;
	const char *name;
	struct value self;
};

/* Its items are worked out when the first is wanted: `make` from `source`. */
struct generator {
	struct value source;
	const struct args *args;
	struct list *(*make)(struct run *r, const struct generator *g);
	int flag;		/* for make */
	struct list *items;	/* NULL: not made yet */
	size_t at;
};

struct cycler {
	struct list items;
	size_t at;
};

struct joiner {
	struct value sep;
	bool used;
};

double v_double(struct jinja *j, struct value v);	/* of a number */

/* ---- making ---- */
#define MISSING ((struct value){ .kind = V_MISSING, .i = 0 })
#define NONE	((struct value){ .kind = V_NONE })

static inline struct value v_bool(bool b)
{
	return (struct value){ .kind = V_BOOL, .b = b };
}
static inline struct value v_int(int64_t i)
{
	return (struct value){ .kind = V_INT, .i = i };
}
static inline struct value v_float(double f)
{
	return (struct value){ .kind = V_FLOAT, .f = f };
}
static inline struct value v_str(struct str *s)
{
	return (struct value){ .kind = V_STR, .s = s };
}
static inline struct value v_list(struct list *l, enum kind kind)
{
	return (struct value){ .kind = (uint8_t)kind, .l = l };
}
static inline struct value v_dict(struct dict *d)
{
	return (struct value){ .kind = V_DICT, .d = d };
}
struct value v_text(struct jinja *j, const char *terminated);
struct value v_undefined(struct jinja *j, const char *hint);
/* Nothing called `name` in obj (or, when that is MISSING, anywhere). */
struct value v_no_such(struct jinja *j, struct value obj, struct value name);
struct value v_method(struct jinja *j, jinja_fn call, const char *name, struct value self);

struct list *list_new(struct jinja *j, size_t room);
void list_push(struct jinja *j, struct list *l, struct value v);
struct dict *dict_new(struct jinja *j, size_t room);
/* Replaces the value of a key that is there. */
void dict_put(struct jinja *j, struct dict *d, struct value key, struct value v);
/* For a key that is known to be new. */
void dict_push(struct jinja *j, struct dict *d, struct value key, struct value v);
struct value *dict_get(struct jinja *j, struct dict *d, struct value key);	/* or NULL */
struct value *dict_get_text(struct jinja *j, struct dict *d, const char *key);

/* ---- asking ---- */
const char *v_type_name(struct value v);	/* as type(v).__name__ */
bool v_is_number(struct value v);		/* int, float or bool */
bool v_truth(struct run *r, struct value v);
bool v_eq(struct jinja *j, struct value a, struct value b);
/* -1, 0, 1; raises the error of `op` when they cannot be ordered.  NaN: 2. */
int v_compare(struct jinja *j, struct value a, struct value b, const char *op);
bool v_hashable(struct value v);
int64_t v_index(struct jinja *j, struct value v);	/* of an int or bool; raises else */
_Noreturn void v_fail_undefined(struct jinja *j, struct value v);
/* "'x' is undefined", and the like. */
struct str *v_undefined_message(struct jinja *j, struct value v);

/* ---- text ---- */
struct str *v_to_str(struct jinja *j, struct value v);	/* str(v) */
void v_repr(struct str_out *o, struct value v);		/* repr(v) */
/* repr(v) as a C string, for messages. */
const char *v_repr_text(struct jinja *j, struct value v);
const char *str_text(struct jinja *j, struct str *s);	/* terminated copy */

/* ---- JSON (json.c) ---- */
/* Strings are borrowed from `json`. */
struct value v_from_json(struct jinja *j, const json_t *json);
struct json_style {
	bool ascii, sort_keys;
	struct str *indent;	/* NULL: on one line */
	struct str *item_sep, *key_sep;
};
struct str *v_to_json(struct jinja *j, struct value v, const struct json_style *style);

#endif
