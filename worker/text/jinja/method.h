/* method.h - what may be called on a value by a dot, in two files: of strings, and
 * the rest. */
#ifndef HEARTH_WORKER_TEXT_JINJA_METHOD_H
#define HEARTH_WORKER_TEXT_JINJA_METHOD_H

#include "worker/text/jinja/run.h"

struct method {
	const char *name;
	jinja_fn call;		/* NULL: exists, but would change the object */
};

/* Ends with a NULL name. */
extern const struct method str_methods[];

#endif
