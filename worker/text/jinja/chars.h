/* chars.h - properties of characters, and numbers, as Python sees them. */
#ifndef HEARTH_WORKER_TEXT_JINJA_CHARS_H
#define HEARTH_WORKER_TEXT_JINJA_CHARS_H

#include "worker/text/jinja/str.h"

enum char_class {
	CHAR_PRINTABLE,
	CHAR_UPPER,
	CHAR_LOWER,
	CHAR_LETTER,
	CHAR_DECIMAL,
	CHAR_DIGIT,
	CHAR_NUMERIC,
};

bool char_is(uint32_t c, enum char_class class);

struct str *str_upper(struct jinja *j, struct str *s);
struct str *str_lower(struct jinja *j, struct str *s);
struct str *str_capitalize(struct jinja *j, struct str *s);	/* str.capitalize() */
struct str *str_title(struct jinja *j, struct str *s);		/* str.title() */
struct str *str_swapcase(struct jinja *j, struct str *s);

/* repr() of a finite number. */
struct float_text {
	char text[40];
};
const char *float_text(struct float_text *t, double x);

#endif
