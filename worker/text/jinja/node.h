/* node.h - a parsed template.
 *
 * One struct serves all kinds; the list below says which of its fields a kind uses.
 * Names are interned: two equal names are one pointer.
 */
#ifndef HEARTH_WORKER_TEXT_JINJA_NODE_H
#define HEARTH_WORKER_TEXT_JINJA_NODE_H

#include "worker/text/jinja/value.h"

enum node_kind {
	/* expressions */
	N_CONST,	/* konst */
	N_NAME,		/* name */
	N_LIST,		/* list */
	N_TUPLE,	/* list */
	N_DICT,		/* list: key, value, key, value */
	N_GETATTR,	/* a . name */
	N_GETITEM,	/* a [ b ] */
	N_SLICE,	/* as b of N_GETITEM: a : b : c, each may be NULL */
	N_CALL,		/* a ( args ) */
	N_FILTER,	/* a | name ( args ); a NULL: the text of a block */
	N_TEST,		/* a is name ( args ) */
	N_NOT, N_NEG, N_POS,		/* a */
	N_AND, N_OR,			/* a, b */
	N_ADD, N_SUB, N_MUL, N_DIV, N_FLOORDIV, N_MOD, N_POW,	/* a, b */
	N_CONCAT,	/* list, joined by ~ */
	N_COMPARE,	/* a, then list: N_OPERAND (op, a) */
	N_OPERAND,
	N_COND,		/* b if a else c; c may be NULL */
	N_NSREF,	/* name . attr, as a target */

	/* statements */
	N_OUTPUT,	/* list of expressions, printed */
	N_SET,		/* a (target) = b */
	N_SET_BLOCK,	/* a = text of body, through the filter b if there is one */
	N_IF,		/* a, body, orelse */
	N_FOR,		/* a (target) in b if c: body, orelse; flag: recursive */
	N_MACRO,	/* name, params, body */
	N_CALL_BLOCK,	/* params, a (the call), body */
	N_FILTER_BLOCK,	/* a (filter), body */
	N_WITH,		/* list: target, value, ...; body */
	N_SCOPE,	/* body with names of its own ({% block %}, {% autoescape %}) */
	N_GENERATION,	/* body: text of the assistant, for training */
	N_BREAK, N_CONTINUE,
	N_NO_LOADER,	/* include, import, extends: there is nothing to load from */
};

enum compare_op {
	OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IN, OP_NOT_IN,
};

/* An interned name. */
struct name {
	struct name *next;
	struct str *s;
	const char *text;
};

/* The pointer that stands for this name in the table that parse() gave.  NULL: the
 * template does not have it; _intern adds it. */
const struct name *name_find(struct name *const *names, const char *p, size_t n);
const struct name *name_intern(struct jinja *j, struct name **names, const char *p, size_t n);

struct call_args {
	struct node **v;
	size_t n, cap;
	struct kwarg {
		const struct name *name;
		struct node *v;
	} *kw;
	size_t n_kw, cap_kw;
	struct node *star, *star_star;
};

struct params {
	const struct name **name;
	struct node **defaults;		/* one a name, NULL where there is none */
	size_t n, cap;
	bool uses_caller, uses_varargs, uses_kwargs;	/* in the body */
};

struct block {
	struct node **at;
	size_t n, cap;
};

struct node {
	uint8_t kind;			/* enum node_kind */
	uint8_t op;			/* enum compare_op */
	bool flag;
	unsigned line, depth;
	const struct name *name, *attr;
	struct node *a, *b, *c;
	struct block list, body, orelse;
	struct call_args *args;
	struct params *params;
	struct value konst;
	jinja_fn fn;			/* of N_FILTER, N_TEST; NULL: there is none */
};

/* A filter or test by name, NULL when there is none (filter.c, test.c). */
jinja_fn jinja_filter(const char *name);
jinja_fn jinja_test(const char *name);

#endif
