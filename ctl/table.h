/* table.h - lists of JSON objects as tables for a person (libsmartcols). */
#ifndef HEARTH_CTL_TABLE_H
#define HEARTH_CTL_TABLE_H

#include <stdbool.h>

#include "lib/json.h"

struct ctl_column {
	const char *title;	/* NULL at the end */
	const char *key;	/* of the object; several, joined by `/`, when it holds one */
	bool right;
};

/* Nothing is printed of an empty list.  0 or -ENOMEM. */
int ctl_print_table(const struct ctl_column *columns, const json_t *list);
/* A member as text: numbers as they stand, yes or -, and - for what is not there. */
void ctl_put_value(const json_t *o, const char *key, struct buf *out);
/* o as JSON on a line.  0 or -ENOMEM. */
int ctl_print_json(const json_t *o);
/* Text from elsewhere, to stdout: a control character becomes a ?, but for newline and tab. */
void ctl_print_safe(const char *s);
/* The same to every string in v, in place. */
void ctl_make_safe(json_t *v);
/* Members of a string; "" when it is not there. */
const char *ctl_text(const json_t *o, const char *key);
int64_t ctl_int(const json_t *o, const char *key);		/* 0 when it is not there */
void ctl_set_text(json_t *o, const char *key, const char *s);	/* s NULL: null */
void ctl_set_int(json_t *o, const char *key, int64_t x);

#endif
