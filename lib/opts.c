/* opts.c - see opts.h. */
#include "lib/opts.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

enum { MAX_OPTIONS = 64, NAME_WIDTH = 26 };

static size_t count(const struct opts_row *t)
{
	size_t n = 0;

	while (t[n].name)
		n++;
	assert(n < MAX_OPTIONS);
	return n;
}

int opts_next(const struct opts_row *t, int argc, char **argv)
{
	struct option longs[MAX_OPTIONS] = { 0 };
	char letters[2 * MAX_OPTIONS + 1];
	size_t n = count(t), at = 0;

	for (size_t i = 0; i < n; i++) {
		longs[i] = (struct option){ t[i].name, t[i].arg ? required_argument : no_argument,
					    NULL, t[i].key };
		if (t[i].key >= OPTS_LONG_ONLY)
			continue;
		letters[at++] = (char)t[i].key;
		if (t[i].arg)
			letters[at++] = ':';
	}
	letters[at] = '\0';
	return getopt_long(argc, argv, letters, longs, NULL);
}

static void put_name(const struct opts_row *o, struct buf *out)
{
	if (o->key < OPTS_LONG_ONLY)
		buf_printf(out, "-%c, ", o->key);
	buf_printf(out, "--%s", o->name);
}

int opts_put_help(const struct opts_row *t, struct buf *out)
{
	for (; t->name; t++) {
		size_t began;

		buf_puts(out, t->key < OPTS_LONG_ONLY ? "  " : "      ");
		began = out->n - (t->key < OPTS_LONG_ONLY ? 0 : 4);
		put_name(t, out);
		if (t->arg)
			buf_printf(out, " %s", t->arg);
		while (buf_ok(out) && out->n - began < NAME_WIDTH)
			buf_putc(out, ' ');
		buf_printf(out, " %s\n", t->text);
	}
	return buf_ok(out) ? 0 : -ENOMEM;
}

int opts_put_dump_row(const char *name, const char *arg, const char *text, struct buf *out)
{
	return buf_printf(out, "%s\t%s\t%s\n", name, arg ? arg : "", text);
}

int opts_put_dump(const struct opts_row *t, struct buf *out)
{
	for (; t->name; t++) {
		put_name(t, out);
		buf_printf(out, "\t%s\t%s\n", t->arg ? t->arg : "", t->text);
	}
	return buf_ok(out) ? 0 : -ENOMEM;
}

void opts_print(struct buf *b)
{
	fwrite(b->n ? b->p : "", 1, b->n, stdout);
	buf_done(b);
}

void opts_print_help(const struct opts_row *t, FILE *f)
{
	struct buf b = BUF_INIT;

	opts_put_help(t, &b);
	fwrite(b.n ? b.p : "", 1, b.n, f);
	buf_done(&b);
}

void opts_print_dump(const struct opts_row *t)
{
	struct buf b = BUF_INIT;

	opts_put_dump(t, &b);
	opts_print(&b);
}
