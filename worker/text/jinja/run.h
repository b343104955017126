/* run.h - one render: names in scope, what is written, and the calls between the
 * files of the interpreter.
 */
#ifndef HEARTH_WORKER_TEXT_JINJA_RUN_H
#define HEARTH_WORKER_TEXT_JINJA_RUN_H

#include "worker/text/jinja/node.h"

/* Names and their values.  The reference decides at compile time where each name
 * lives; searching outwards at run time gives the same, because a `for` body, a macro
 * and a block each begin a frame, an `if` does not, and a `set` writes the innermost. */
struct frame {
	struct frame *outer;
	struct variable {
		const struct name *name;
		struct value v;
	} *at;
	size_t n, cap;
	bool kept;		/* a macro remembers it: not to be used again */
};

struct args {
	struct value *v;
	size_t n;
	struct arg_kw {
		struct str *name;
		struct value v;
	} *kw;
	size_t n_kw;
};

struct macro {
	const struct node *node;	/* N_MACRO or N_CALL_BLOCK */
	struct frame *frame;		/* where it was defined */
};

struct run {
	struct jinja j;			/* first: memory, steps, errors */
	struct frame *frame, *root;
	struct str_out *out;		/* what is printed goes here */
	struct name *const *names;	/* of the template */
	size_t max_output;
	int64_t now;			/* for strftime_now; seconds since 1970 */
};

/* ---- eval.c ---- */
struct value eval(struct run *r, const struct node *n);
struct args *eval_args(struct run *r, const struct call_args *a);
struct value call_value(struct run *r, struct value f, struct args *a);
struct value apply_filter(struct run *r, const struct node *filter, struct value input);
struct value *frame_find(struct frame *f, const struct name *name);
struct value get_attr(struct run *r, struct value v, struct str *name);		/* v.name */
struct value get_item(struct run *r, struct value v, struct value key);	/* v[key] */
bool contains(struct run *r, struct value all, struct value one);		/* one in all */

/* ---- exec.c, macro.c ---- */
enum flow {
	FLOW_ON,
	FLOW_BREAK,
	FLOW_CONTINUE,
};
enum flow exec(struct run *r, const struct block *b);
struct value call_macro(struct run *r, struct macro *m, struct args *a);

/* ---- iterating ---- */
/* The items of anything that can be iterated; raises when it cannot.  A list's own
 * memory is answered: do not change it.  A generator is used up. */
struct list *items_of(struct run *r, struct value v);
bool is_iterable(struct value v);
/* len(v); false when it has none. */
bool length_of(struct run *r, struct value v, size_t *ret_n);
struct value make_generator(struct run *r, struct value source, const struct args *a,
			    struct list *(*make)(struct run *r, const struct generator *g),
			    int flag);

/* ---- number.c ---- */
struct value arithmetic(struct run *r, enum node_kind op, struct value a, struct value b);
struct value negate(struct run *r, struct value v);	/* of a number */
struct value to_int(struct run *r, struct value v, struct value otherwise, int64_t base);
struct value to_float(struct run *r, struct value v, struct value otherwise);
struct value round_number(struct run *r, struct value v, int64_t precision, const char *method);

/* ---- format.c ---- */
struct value format_percent(struct run *r, struct str *format, struct value args);
struct value format_braces(struct run *r, struct str *format, const struct args *a);

/* ---- method.c, global.c ---- */
/* The method or attribute `name` of v; V_MISSING when there is none. */
struct value find_method(struct run *r, struct value v, struct str *name);
struct value find_global(struct run *r, const char *name);
struct list *split_lines(struct run *r, struct str *s, bool keep);
bool is_in_case(struct run *r, struct str *s, bool up);
struct value method_center(struct run *r, struct value self, const struct args *a);
struct value method_items(struct run *r, struct value self, const struct args *a);

/* ---- arguments of functions ---- */
/* Fills out[] from positional and keyword arguments by the names, separated by spaces,
 * of which the first n_required must be given; V_MISSING where nothing was. */
void bind_args(struct run *r, const struct args *a, const char *function, size_t n_required,
	       const char *names, struct value *out);
/* The argument as a string, with "expected str" otherwise. */
struct str *want_str(struct run *r, struct value v, const char *what);
/* The integer of an optional argument. */
int64_t want_int_or(struct run *r, struct value v, int64_t otherwise);

#endif
