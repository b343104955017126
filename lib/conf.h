/* conf.h - a program's configuration: one table, and all that is made from it.
 *
 * The table names every section and key with type, range, default, whether it may change
 * on reload, and a line of help.  Parsing, `--help`, the sample file and the
 * manual's list of keys come from it, so that they cannot differ.
 *
 * Files look like systemd's:
 *
 *	[http]
 *	listen = 127.0.0.1:8080
 *	[alias tiny]			; a named section: any number, each with its own name
 *	chain = worker:tiny
 *		upstream:cloud/gpt	; an indented line continues a text
 *
 * FILE is read first, then FILE.d/<name>.conf in the order of their names; a later file's
 * value replaces an earlier one's.  An unknown section or key, a key that the same file has
 * already, a value out of range, a line that is neither, or one of more than 197 bytes is an
 * error with file and line.
 *
 * Not thread-safe; a loaded conf does not change.
 */
#ifndef HEARTH_LIB_CONF_H
#define HEARTH_LIB_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/err.h"

enum conf_type {
	CONF_BOOL,	/* yes/no, true/false, on/off, 1/0 */
	CONF_INT,	/* min..max */
	CONF_TEXT,	/* anything; min..max bytes when max is not 0 */
	CONF_CHOICE,	/* one of `choices`, "a|b|c" */
};

struct conf_key {
	const char *section;
	const char *key;
	enum conf_type type;
	int64_t min, max;
	const char *choices;
	const char *def;	/* as it would stand in a file; NULL: not set */
	bool reload;		/* may change without a restart */
	const char *help;	/* one line */
};

struct conf_section {
	const char *name;
	bool named;		/* [name X], any number of them */
	const char *help;
};

struct conf_table {
	const struct conf_section *sections;	/* ends with a NULL name */
	const struct conf_key *keys;		/* ends with a NULL key */
};

struct conf;

/* Reads path (NULL: nothing but the defaults) and its drop-ins.  -EINVAL: e says file,
 * line and what; -errno of the file; -ENOMEM. */
int conf_load(const struct conf_table *t, const char *path, struct conf **ret, struct err *e);
/* The same from memory; `name` stands in messages.  No drop-ins. */
int conf_load_text(const struct conf_table *t, const char *name, const char *text, size_t n,
		   struct conf **ret, struct err *e);
/* One more value, from a command line: "section.key=value" or "section NAME.key=value". */
int conf_override(struct conf *c, const char *assignment, struct err *e);
struct conf *conf_free(struct conf *c);

/* Values.  `name` is NULL for a plain section.  Asking for what is not in the table is
 * our own mistake and asserts.  conf_text: NULL when not set and without default; borrowed. */
bool conf_bool(const struct conf *c, const char *section, const char *name, const char *key);
int64_t conf_int(const struct conf *c, const char *section, const char *name, const char *key);
const char *conf_text(const struct conf *c, const char *section, const char *name,
		      const char *key);
/* The i-th [section NAME] in order of first mention; NULL past the end. */
const char *conf_name(const struct conf *c, const char *section, size_t i);

/* Appends "section.key" of what differs and may not change on reload; 0 or -ENOMEM. */
int conf_needs_restart(const struct conf *was, const struct conf *now, struct buf *out);

/* Each value that is not the same in both; NULL: not set, and no default. */
typedef void conf_see_fn(void *arg, const struct conf_key *k, const char *name, const char *was,
			 const char *now);
void conf_diff(const struct conf *was, const struct conf *now, conf_see_fn *see, void *arg);
/* Each value there is, those of plain sections also where nothing was set: `was` is the default. */
void conf_each(const struct conf *c, conf_see_fn *see, void *arg);

/* Writes the sample file, or the option list of --help. */
int conf_put_sample(const struct conf_table *t, struct buf *out);
int conf_put_help(const struct conf_table *t, struct buf *out);
/* The lines of --dump-keys, of which hearth.conf(5) is made; a tab between:
 *	SECTION  KEY  TYPE  RANGE  DEFAULT  reload|restart  TEXT
 * A named section's name ends with " NAME"; TYPE is bool, number, text or choice; RANGE is
 * "MIN..MAX", the choices, or empty. */
int conf_put_rows(const struct conf_table *t, struct buf *out);

#endif
