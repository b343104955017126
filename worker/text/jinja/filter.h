/* filter.h - the filters, in three files: of text, of sequences, and the table. */
#ifndef HEARTH_WORKER_TEXT_JINJA_FILTER_H
#define HEARTH_WORKER_TEXT_JINJA_FILTER_H

#include "worker/text/jinja/run.h"

struct filter {
	const char *name;
	jinja_fn call;
};

/* Each ends with a NULL name. */
extern const struct filter text_filters[], seq_filters[];

/* str(v), but a safe string stays one. */
struct str *soft_str(struct run *r, struct value v);

/* What `attribute=` of many filters means: a path "a.b.0", or a whole number. */
struct value attr_path(struct run *r, struct value item, struct value path, struct value otherwise);
/* Strings in lower case, for comparisons that ignore it. */
struct value fold_case(struct run *r, struct value v);

#endif
