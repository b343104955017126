/* exec.h - what the files of the statements share: exec.c, frame.c, loop.c, macro.c. */
#ifndef HEARTH_WORKER_TEXT_JINJA_EXEC_H
#define HEARTH_WORKER_TEXT_JINJA_EXEC_H

#include "worker/text/jinja/run.h"

struct loop;

/* frame.c */
struct frame *frame_new(struct run *r, struct frame *outer);
void frame_set(struct run *r, struct frame *f, const struct name *name, struct value v);
/* To a name, a tuple of targets, or a member of a namespace; raises. */
void frame_assign(struct run *r, struct frame *f, const struct node *target, struct value v);
/* A wrong ns.attr is found before the value is worked out; raises. */
void frame_check_target(struct run *r, const struct node *target);
/* f and all around it: none is used again. */
void frame_keep(struct frame *f);

/* exec.c */
/* What a body prints, as text; f is its frame. */
struct str *exec_capture(struct run *r, const struct block *b, struct frame *f,
			 enum flow *ret_flow);
void exec_print(struct run *r, struct value v);

/* loop.c */
struct loop *loop_new(struct run *r, const struct node *n, struct value items, size_t depth0);
enum flow loop_exec(struct run *r, struct loop *l);

/* macro.c */
struct value macro_new(struct run *r, const struct node *n);
void macro_call_block(struct run *r, const struct node *n);

#endif
