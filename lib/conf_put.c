/* conf_put.c - what is made from the table alone: the sample file, --help, the manual's lines. */
#include <errno.h>
#include <inttypes.h>

#include "lib/conf_int.h"

static void put_range(const struct conf_key *k, struct buf *out)
{
	if (k->type == CONF_BOOL)
		buf_puts(out, "yes or no");
	else if (k->type == CONF_INT)
		buf_printf(out, "%" PRId64 "..%" PRId64, k->min, k->max);
	else if (k->type == CONF_CHOICE)
		buf_puts(out, k->choices);
	else
		buf_puts(out, "text");
}

int conf_put_sample(const struct conf_table *t, struct buf *out)
{
	for (const struct conf_section *s = t->sections; s->name; s++) {
		buf_printf(out, "%s# %s\n%s[%s%s]\n", out->n ? "\n" : "", s->help,
			   s->named ? "#" : "", s->name, s->named ? " NAME" : "");
		for (const struct conf_key *k = t->keys; k->key; k++) {
			if (!str_eq(k->section, s->name))
				continue;
			buf_printf(out, "# %s (", k->help);
			put_range(k, out);
			buf_printf(out, "%s)\n#%s =%s%s\n", k->reload ? "; reload" : "", k->key,
				   k->def && *k->def ? " " : "", k->def ? k->def : "");
		}
	}
	return buf_ok(out) ? 0 : -ENOMEM;
}

int conf_put_help(const struct conf_table *t, struct buf *out)
{
	for (const struct conf_key *k = t->keys; k->key; k++) {
		buf_printf(out, "  %s.%s=%s\n      %s (", k->section, k->key, k->def ? k->def : "",
			   k->help);
		put_range(k, out);
		buf_puts(out, ")\n");
	}
	return buf_ok(out) ? 0 : -ENOMEM;
}

static const char *type_name(enum conf_type type)
{
	return type == CONF_BOOL ? "bool" : type == CONF_INT ? "number" :
	       type == CONF_CHOICE ? "choice" : "text";
}

int conf_put_rows(const struct conf_table *t, struct buf *out)
{
	for (const struct conf_section *s = t->sections; s->name; s++) {
		for (const struct conf_key *k = t->keys; k->key; k++) {
			if (!str_eq(k->section, s->name))
				continue;
			buf_printf(out, "%s%s\t%s\t%s\t", s->name, s->named ? " NAME" : "", k->key,
				   type_name(k->type));
			if (k->type != CONF_TEXT)
				put_range(k, out);
			buf_printf(out, "\t%s\t%s\t%s\n", k->def ? k->def : "",
				   k->reload ? "reload" : "restart", k->help);
		}
	}
	return buf_ok(out) ? 0 : -ENOMEM;
}
