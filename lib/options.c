/* options.c - see options.h. */
#include "lib/options.h"

#include <assert.h>
#include <getopt.h>
#include <stdbool.h>
#include <string.h>

enum { TEXT_AT = 30, WIDTH = 96, NAMES = 64 };

static bool has_letter(const struct opt *o)
{
	return o->id > ' ' && o->id < 0x7f;
}

int opt_next(const struct opt *table, int argc, char **argv, const char **ret_arg)
{
	struct option longs[OPT_MAX + 1] = { 0 };
	char letters[2 * OPT_MAX + 1], *p = letters;
	int c;

	for (int i = 0; table[i].name; i++) {
		assert(i < OPT_MAX);
		longs[i] = (struct option){ table[i].name, table[i].arg ? required_argument :
					    no_argument, NULL, table[i].id };
		if (!has_letter(&table[i]))
			continue;
		*p++ = (char)table[i].id;
		if (table[i].arg)
			*p++ = ':';
	}
	*p = '\0';
	c = getopt_long(argc, argv, letters, longs, NULL);
	*ret_arg = optarg;
	return c == -1 ? OPT_END : c == '?' ? OPT_BAD : c;
}

static void put_names(const struct opt *o, char names[NAMES])
{
	if (has_letter(o))
		snprintf(names, NAMES, "-%c, --%s", o->id, o->name);
	else
		snprintf(names, NAMES, "--%s", o->name);
}

/* Words from column `at` on, with the following lines indented by `indent`. */
static void put_words(const char *text, int at, int indent, FILE *f)
{
	for (const char *p = text; *p; p += strspn(p, " ")) {
		const int n = (int)strcspn(p, " ");

		if (at + 1 + n > WIDTH && at > indent) {
			fprintf(f, "\n%*s", indent, "");
			at = indent;
		} else if (p != text) {
			fputc(' ', f);
			at++;
		}
		fprintf(f, "%.*s", n, p);
		at += n;
		p += n;
	}
	fputc('\n', f);
}

void opt_put_help(const struct opt *table, FILE *f)
{
	for (const struct opt *o = table; o->name; o++) {
		char names[NAMES];
		int n;

		put_names(o, names);
		n = fprintf(f, "  %s%s%s%s", has_letter(o) ? "" : "    ", names, o->arg ? " " : "",
			    o->arg ? o->arg : "");
		if (n > TEXT_AT - 2)
			n = fprintf(f, "\n") - 1;
		fprintf(f, "%*s", TEXT_AT - n, "");
		put_words(o->help, TEXT_AT, TEXT_AT, f);
	}
}

void opt_put_lines(const struct opt *table, FILE *f)
{
	for (const struct opt *o = table; o->name; o++) {
		char names[NAMES];

		put_names(o, names);
		fprintf(f, "%s\t%s\t%s\n", names, o->arg ? o->arg : "", o->help);
	}
}
