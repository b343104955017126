/* conf_int.h - what the conf*.c share: the values of a loaded configuration. */
#ifndef HEARTH_LIB_CONF_INT_H
#define HEARTH_LIB_CONF_INT_H

#include <string.h>

#include "lib/conf.h"

struct conf_value {
	const struct conf_key *key;
	char *name;		/* of a named section, else NULL */
	char *text;
	unsigned file;		/* conf.n_files when it was said */
	int line;		/* of that file; 0: on a command line */
};

struct conf {
	const struct conf_table *table;
	unsigned n_files;	/* read so far, with the one at hand */
	struct conf_value *values;
	size_t n_values;
	struct {
		const char *section;
		char *name;
	} *names;
	size_t n_names;
};

/* Both may be NULL. */
static inline bool str_eq(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

/* conf.c */
/* header: "http", or "alias tiny", of which *ret_name is then the second word (else NULL). */
const struct conf_section *conf_find_section(const struct conf_table *t, const char *header,
					     const char **ret_name);
struct conf_value *conf_find_value(const struct conf *c, const struct conf_key *k,
				   const char *name);
int conf_add_name(struct conf *c, const char *section, const char *name);	/* 0 or -ENOMEM */
/* Sets the value, of `line` of the file at hand (0: of a command line); continued: adds a line to
 * it.  -EINVAL with the reason; -ENOMEM without. */
int conf_assign(struct conf *c, const char *header, const char *key, const char *text, int line,
		bool continued, struct err *e);

/* conf_check.c: 0 or -EINVAL. */
int conf_parse_bool(const char *s, bool *ret);
int conf_parse_int(const char *s, int64_t *ret);
int conf_check_value(const struct conf_key *k, const char *text, struct err *e);

#endif
