/* loop.h - the variable `loop` of a for. */
#ifndef HEARTH_WORKER_TEXT_JINJA_LOOP_H
#define HEARTH_WORKER_TEXT_JINJA_LOOP_H

#include "worker/text/jinja/run.h"

/* Items are tested (for x in y if c) one by one, as they are wanted: the body may
 * change what the test asks. */
struct loop {
	struct run *r;
	const struct node *node;
	struct list *items;
	size_t next;			/* of items, not looked at yet */
	struct frame *frame;		/* around the loop */
	struct value before, current, after;	/* MISSING: none, or not known */
	bool at_end;			/* there is nothing after `current` */
	size_t index0, depth0, length;
	bool length_known;
	struct value changed;		/* last arguments of loop.changed() */
};

/* Moves on; false at the end. */
bool loop_step(struct loop *l);
size_t loop_length(struct loop *l);
/* loop.name; V_MISSING when there is no such thing. */
struct value loop_attr(struct run *r, struct value loop, struct str *name);
/* loop(items) of a recursive loop. */
struct value loop_recurse(struct run *r, struct loop *l, struct value items);
/* repr() of the macro's name, or "anonymous". */
const char *macro_name(struct jinja *j, const struct macro *m);

#endif
