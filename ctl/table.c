/* table.c - see table.h. */
#include "ctl/table.h"

#include <libsmartcols.h>
#include <stdio.h>
#include <string.h>

#include "lib/own.h"

void ctl_put_value(const json_t *o, const char *key, struct buf *out)
{
	const json_t *v = json_object_get(o, key);
	const char *s = jx_is_num(v) ? jx_num(v) : jx_str(v, NULL);

	if (!s && json_is_boolean(v))
		s = json_is_true(v) ? "yes" : "-";
	buf_puts(out, s && *s ? s : "-");
}

static void put_cell(const json_t *o, const char *keys, struct buf *out)
{
	const char *slash = strchr(keys, '/');
	char first[64];

	if (!slash) {
		ctl_put_value(o, keys, out);
		return;
	}
	snprintf(first, sizeof(first), "%.*s", (int)(slash - keys), keys);
	ctl_put_value(o, first, out);
	buf_putc(out, '/');
	ctl_put_value(o, slash + 1, out);
}

static int add_row(struct libscols_table *t, const struct ctl_column *columns, const json_t *o)
{
	struct libscols_line *line = scols_table_new_line(t, NULL);

	for (size_t i = 0; line && columns[i].title; i++) {
		CLEANUP(buf_donep) struct buf cell = BUF_INIT;

		put_cell(o, columns[i].key, &cell);
		if (!buf_ok(&cell) || scols_line_set_data(line, i, cell.p) < 0)
			return -ENOMEM;
	}
	return line ? 0 : -ENOMEM;
}

int ctl_print_table(const struct ctl_column *columns, const json_t *list)
{
	struct libscols_table *t;
	int r = 0;

	if (json_array_size(list) == 0)
		return 0;
	t = scols_new_table();
	if (!t)
		return -ENOMEM;
	for (size_t i = 0; columns[i].title && r == 0; i++)
		r = scols_table_new_column(t, columns[i].title, 0,
					   columns[i].right ? SCOLS_FL_RIGHT : 0)
			    ? 0
			    : -ENOMEM;
	for (size_t i = 0; i < json_array_size(list) && r == 0; i++)
		r = add_row(t, columns, json_array_get(list, i));
	if (r == 0)
		scols_print_table(t);
	scols_unref_table(t);
	return r;
}

int ctl_print_json(const json_t *o)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;

	if (!o || jx_put(&b, o, JX_SPACED) < 0)
		return -ENOMEM;
	puts(b.p);
	return 0;
}

/* Bytes of a control character at s, 0: it is none.  U+0080..9F are two. */
static size_t control(const char *s)
{
	unsigned char c = (unsigned char)*s;

	if ((c < ' ' && c != '\n' && c != '\t') || c == 127)
		return 1;
	return c == 0xc2 && (unsigned char)s[1] >= 0x80 && (unsigned char)s[1] < 0xa0 ? 2 : 0;
}

void ctl_print_safe(const char *s)
{
	while (*s) {
		size_t n = control(s);

		putchar(n ? '?' : *s);
		s += n ? n : 1;
	}
}

void ctl_make_safe(json_t *v)
{
	char *s = (char *)(uintptr_t)jx_str(v, NULL);
	const char *key;
	json_t *member;
	size_t i;

	for (; s && *s; s++)
		for (size_t n = control(s); n; n--)
			s[n - 1] = '?';
	json_object_foreach(v, key, member)
		ctl_make_safe(member);
	json_array_foreach(v, i, member)
		ctl_make_safe(member);
}

const char *ctl_text(const json_t *o, const char *key)
{
	const char *s = jx_str(json_object_get(o, key), NULL);

	return s ? s : "";
}

int64_t ctl_int(const json_t *o, const char *key)
{
	int64_t x = 0;

	(void)jx_int64(json_object_get(o, key), &x);
	return x;
}

void ctl_set_text(json_t *o, const char *key, const char *s)
{
	json_object_set_new(o, key, s ? jx_str_new(s, strlen(s)) : json_null());
}

void ctl_set_int(json_t *o, const char *key, int64_t x)
{
	json_object_set_new(o, key, jx_int_new(x));
}
