/* conf_file.c - reading: the file, its drop-ins, their lines; the one door to inih.
 *
 * Debian's inih calls the handler without a line number, cuts lines at 199 bytes and
 * section names at 49 without a word.  So lines are handed to it by a reader of ours that
 * counts them, refuses the long ones, and looks at section headers itself.
 */
#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/conf_int.h"
#include "lib/file.h"
#include "lib/own.h"

enum { MAX_FILE = 1 << 20, MAX_SECTION_NAME = 49 };

struct reading {
	struct conf *conf;
	const char *file;
	const char *p, *end;
	int line;
	bool continued;		/* the line at hand begins with a blank */
	struct err *e;
	int r;			/* the first failure */
};

static int handle(void *user, const char *section, const char *key, const char *text)
{
	struct reading *rd = user;
	struct err e = { 0 };
	int r;

	if (rd->r < 0)
		return 0;
	r = conf_assign(rd->conf, section, key, text, rd->line, rd->continued, &e);
	if (r == -ENOMEM)
		err_set(&e, r, "out of memory");
	if (r < 0)
		rd->r = err_set(rd->e, r, "%s:%d: %s", rd->file, rd->line, e.text);
	return r == 0;
}

/* A section without keys reaches no handler, so the header is looked at here. */
static void look_at_header(struct reading *rd, const char *line, size_t n)
{
	const char *name = NULL, *close = memchr(line, ']', n);
	const struct conf_section *s;
	char header[MAX_SECTION_NAME + 1];
	size_t len;

	if (!close)
		return;			/* inih says so itself */
	len = (size_t)(close - line) - 1;
	if (len >= sizeof(header)) {
		rd->r = err_set(rd->e, -EINVAL,
				"%s:%d: a section name of %zu bytes, the limit is %d", rd->file,
				rd->line, len, MAX_SECTION_NAME);
		return;
	}
	memcpy(header, line + 1, len);
	header[len] = '\0';
	s = conf_find_section(rd->conf->table, header, &name);
	if (!s)
		rd->r = err_set(rd->e, -EINVAL, "%s:%d: unknown section [%s]", rd->file, rd->line,
				header);
	else if (name && conf_add_name(rd->conf, s->name, name) < 0)
		rd->r = err_set(rd->e, -ENOMEM, "out of memory");
}

/* fgets() for inih. */
static char *next_line(char *out, int cap, void *user)
{
	struct reading *rd = user;
	const char *nl;
	size_t n;

	if (rd->p == rd->end || rd->r < 0)
		return NULL;
	nl = memchr(rd->p, '\n', (size_t)(rd->end - rd->p));
	n = (size_t)((nl ? nl : rd->end) - rd->p);
	rd->line++;
	if (n + 2 > (size_t)cap || memchr(rd->p, '\0', n)) {
		rd->r = err_set(rd->e, -EINVAL, "%s:%d: line too long (%zu bytes), or a NUL in it",
				rd->file, rd->line, n);
		return NULL;
	}
	memcpy(out, rd->p, n);
	out[n] = '\0';
	rd->p += n + (nl != NULL);
	rd->continued = n && (out[0] == ' ' || out[0] == '\t');
	if (out[strspn(out, " \t")] == '[')
		look_at_header(rd, out + strspn(out, " \t"), n - strspn(out, " \t"));
	return rd->r < 0 ? NULL : out;
}

static int parse_text(struct conf *c, const char *file, const char *text, size_t n, struct err *e)
{
	struct reading rd = { .conf = c, .file = file, .p = text, .end = text + n, .e = e };
	int line;

	c->n_files++;
	line = ini_parse_stream(next_line, &rd, handle, &rd);
	if (rd.r < 0)
		return rd.r;
	if (line < 0)
		return err_set(e, -ENOMEM, "%s: out of memory", file);
	if (line > 0)
		return err_set(e, -EINVAL,
			       "%s:%d: neither a section, a key with a value nor a comment", file,
			       line);
	return 0;
}

static int parse_file(struct conf *c, const char *path, struct err *e)
{
	CLEANUP(freep) char *text = NULL;
	size_t n;
	int r = file_read(path, MAX_FILE, &text, &n, e);

	return r < 0 ? r : parse_text(c, path, text, n, e);
}

static int is_conf(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return d->d_name[0] != '.' && n > 5 && !strcmp(d->d_name + n - 5, ".conf");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);	/* alphasort() follows the locale */
}

static int parse_drop_ins(struct conf *c, const char *path, struct err *e)
{
	CLEANUP(freep) char *dir = NULL;
	struct dirent **list = NULL;
	int n, r = 0;

	if (asprintf(&dir, "%s.d", path) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	n = scandir(dir, &list, is_conf, by_name);
	if (n < 0)
		return errno == ENOENT ? 0 : err_set(e, -errno, "%s: %s", dir, strerror(errno));
	for (int i = 0; i < n; i++) {
		CLEANUP(freep) char *file = NULL;

		if (r == 0 && asprintf(&file, "%s/%s", dir, list[i]->d_name) < 0)
			r = err_set(e, -ENOMEM, "out of memory");
		if (r == 0)
			r = parse_file(c, file, e);
		free(list[i]);
	}
	free(list);
	return r;
}

static int conf_new(const struct conf_table *t, struct conf **ret, struct err *e)
{
	*ret = calloc(1, sizeof(**ret));
	if (!*ret)
		return err_set(e, -ENOMEM, "out of memory");
	(*ret)->table = t;
	return 0;
}

static void conf_freep(struct conf **c)
{
	conf_free(*c);
}

int conf_load(const struct conf_table *t, const char *path, struct conf **ret, struct err *e)
{
	CLEANUP(conf_freep) struct conf *c = NULL;
	int r = conf_new(t, &c, e);

	if (r == 0 && path) {
		r = parse_file(c, path, e);
		if (r == 0)
			r = parse_drop_ins(c, path, e);
	}
	if (r < 0)
		return r;
	*ret = TAKE(c);
	return 0;
}

int conf_load_text(const struct conf_table *t, const char *name, const char *text, size_t n,
		   struct conf **ret, struct err *e)
{
	CLEANUP(conf_freep) struct conf *c = NULL;
	int r = conf_new(t, &c, e);

	if (r == 0)
		r = parse_text(c, name, text, n, e);
	if (r < 0)
		return r;
	*ret = TAKE(c);
	return 0;
}
