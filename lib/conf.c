/* conf.c - see conf.h; the one door to inih.
 *
 * Debian's inih calls the handler without a line number, cuts lines at 199 bytes and
 * section names at 49 without a word.  So lines are handed to it by a reader of ours that
 * counts them, refuses the long ones, and looks at section headers itself.
 */
#include "lib/conf.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/own.h"

enum { MAX_FILE = 1 << 20, MAX_SECTION_NAME = 49 };

struct value {
	const struct conf_key *key;
	char *name;		/* of a named section, else NULL */
	char *text;
};

struct conf {
	const struct conf_table *table;
	struct value *values;
	size_t n_values;
	struct {
		const char *section;
		char *name;
	} *names;
	size_t n_names;
};

struct reading {
	struct conf *conf;
	const char *file;
	const char *p, *end;
	int line;
	bool continued;		/* the line at hand begins with a blank */
	char unknown[128];	/* the last section header, when it is not in the table */
	struct err *e;
	int r;			/* the first failure */
};

struct conf *conf_free(struct conf *c)
{
	if (!c)
		return NULL;
	for (size_t i = 0; i < c->n_values; i++) {
		free(c->values[i].name);
		free(c->values[i].text);
	}
	for (size_t i = 0; i < c->n_names; i++)
		free(c->names[i].name);
	free(c->values);
	free(c->names);
	free(c);
	return NULL;
}

static bool str_eq(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static const struct conf_section *find_section(const struct conf_table *t, const char *header,
					       const char **ret_name)
{
	for (const struct conf_section *s = t->sections; s->name; s++) {
		size_t n = strlen(s->name);

		*ret_name = NULL;
		if (!s->named && str_eq(header, s->name))
			return s;
		if (s->named && !strncmp(header, s->name, n) && header[n] == ' ') {
			*ret_name = header + n + strspn(header + n, " ");
			if (**ret_name)
				return s;
		}
	}
	return NULL;
}

static const struct conf_key *find_key(const struct conf_table *t, const char *section,
				       const char *key)
{
	for (const struct conf_key *k = t->keys; k->key; k++)
		if (str_eq(k->section, section) && str_eq(k->key, key))
			return k;
	return NULL;
}

static int parse_bool(const char *s, bool *ret)
{
	static const char *const yes[] = { "yes", "true", "on", "1" };
	static const char *const no[] = { "no", "false", "off", "0" };

	for (size_t i = 0; i < 4; i++) {
		if (!strcasecmp(s, yes[i]) || !strcasecmp(s, no[i])) {
			*ret = !strcasecmp(s, yes[i]);
			return 0;
		}
	}
	return -EINVAL;
}

static int parse_int(const char *s, int64_t *ret)
{
	char *end;
	long long x;

	errno = 0;
	x = strtoll(s, &end, 10);
	if (errno || end == s || *end)
		return -EINVAL;
	*ret = x;
	return 0;
}

static bool is_choice(const char *choices, const char *s)
{
	size_t n = strlen(s);

	for (const char *p = choices; *p; p += strcspn(p, "|"), p += *p == '|')
		if (strcspn(p, "|") == n && !strncmp(p, s, n))
			return true;
	return false;
}

static int check_value(const struct conf_key *k, const char *text, struct err *e)
{
	int64_t x;
	bool b;

	switch (k->type) {
	case CONF_BOOL:
		if (parse_bool(text, &b) < 0)
			return err_set(e, -EINVAL, "%s: '%.60s' is neither yes nor no", k->key,
				       text);
		return 0;
	case CONF_INT:
		if (parse_int(text, &x) < 0)
			return err_set(e, -EINVAL, "%s: '%.60s' is not a whole number", k->key,
				       text);
		if (x < k->min || x > k->max)
			return err_set(e, -EINVAL,
				       "%s: %" PRId64 " is not in %" PRId64 "..%" PRId64, k->key, x,
				       k->min, k->max);
		return 0;
	case CONF_CHOICE:
		if (!is_choice(k->choices, text))
			return err_set(e, -EINVAL, "%s: '%.60s' is not one of %s", k->key, text,
				       k->choices);
		return 0;
	case CONF_TEXT:
		break;
	}
	x = (int64_t)strlen(text);
	if (k->max && (x < k->min || x > k->max))
		return err_set(e, -EINVAL, "%s: %" PRId64 " bytes are not in %" PRId64 "..%" PRId64,
			       k->key, x, k->min, k->max);
	return 0;
}

static struct value *find_value(const struct conf *c, const struct conf_key *k, const char *name)
{
	for (size_t i = 0; i < c->n_values; i++)
		if (c->values[i].key == k && str_eq(c->values[i].name, name))
			return &c->values[i];
	return NULL;
}

static int add_name(struct conf *c, const char *section, const char *name)
{
	void *p;

	for (size_t i = 0; i < c->n_names; i++)
		if (str_eq(c->names[i].section, section) && str_eq(c->names[i].name, name))
			return 0;
	p = realloc(c->names, (c->n_names + 1) * sizeof(*c->names));
	if (!p)
		return -ENOMEM;
	c->names = p;
	c->names[c->n_names].section = section;
	c->names[c->n_names].name = strdup(name);
	if (!c->names[c->n_names].name)
		return -ENOMEM;
	c->n_names++;
	return 0;
}

static int set_value(struct conf *c, const struct conf_key *k, const char *name, const char *text)
{
	struct value *v = find_value(c, k, name);
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	if (v) {
		free(v->text);
		v->text = copy;
		return 0;
	}
	v = realloc(c->values, (c->n_values + 1) * sizeof(*v));
	if (!v) {
		free(copy);
		return -ENOMEM;
	}
	c->values = v;
	v += c->n_values;
	*v = (struct value){ .key = k, .name = name ? strdup(name) : NULL, .text = copy };
	if (name && !v->name) {
		free(copy);
		return -ENOMEM;
	}
	c->n_values++;
	return 0;
}

static int assign(struct conf *c, const char *header, const char *key, const char *text,
		  bool continued, struct err *e)
{
	CLEANUP(freep) char *joined = NULL;
	const char *name;
	const struct conf_section *s = find_section(c->table, header, &name);
	const struct conf_key *k;
	struct value *v;
	int r;

	if (!s)
		return err_set(e, -EINVAL, "unknown section [%.60s]", header);
	k = find_key(c->table, s->name, key);
	if (!k)
		return err_set(e, -EINVAL, "unknown key '%.60s' in [%s]", key, s->name);
	v = find_value(c, k, name);
	if (continued && v) {
		if (k->type != CONF_TEXT)
			return err_set(e, -EINVAL, "%s: a second line", key);
		if (asprintf(&joined, "%s %s", v->text, text) < 0)
			return -ENOMEM;
		text = joined;
	}
	r = check_value(k, text, e);
	if (r < 0)
		return r;
	if (name && add_name(c, s->name, name) < 0)
		return -ENOMEM;
	return set_value(c, k, name, text);
}

static int handle(void *user, const char *section, const char *key, const char *text)
{
	struct reading *rd = user;
	struct err e = { 0 };
	int r;

	if (rd->r < 0)
		return 0;
	r = assign(rd->conf, section, key, text, rd->continued, &e);
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
	s = find_section(rd->conf->table, header, &name);
	if (!s)
		rd->r = err_set(rd->e, -EINVAL, "%s:%d: unknown section [%s]", rd->file, rd->line,
				header);
	else if (name && add_name(rd->conf, s->name, name) < 0)
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
	int line = ini_parse_stream(next_line, &rd, handle, &rd);

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

static int read_file(const char *path, struct buf *out, struct err *e)
{
	CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size > MAX_FILE)
		return err_set(e, -EFBIG, "%s: not a file of at most %d bytes", path, MAX_FILE);
	for (;;) {
		ssize_t n;

		if (out->n > MAX_FILE || buf_reserve(out, 65536) < 0)
			return err_set(e, -ENOMEM, "%s: out of memory", path);
		n = read(fd, out->p + out->n, 65536);
		if (n < 0)
			return err_set(e, -errno, "%s: %s", path, strerror(errno));
		if (n == 0)
			return 0;
		out->n += (size_t)n;
	}
}

static int parse_file(struct conf *c, const char *path, struct err *e)
{
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	int r = read_file(path, &text, e);

	return r < 0 ? r : parse_text(c, path, text.p ? text.p : "", text.n, e);
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

int conf_override(struct conf *c, const char *assignment, struct err *e)
{
	CLEANUP(freep) char *copy = strdup(assignment);
	char *eq, *dot;
	int r;

	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	eq = strchr(copy, '=');
	if (eq)
		*eq = '\0';
	dot = eq ? strrchr(copy, '.') : NULL;
	if (!dot)
		return err_set(e, -EINVAL, "'%s': write section.key=value", assignment);
	*dot = '\0';
	r = assign(c, copy, dot + 1, eq + 1, false, e);
	return r < 0 ? err_prefix(e, r, "'%s'", assignment) : 0;
}

static const char *get(const struct conf *c, const char *section, const char *name,
		       const char *key)
{
	const struct conf_key *k = find_key(c->table, section, key);
	const struct value *v;

	assert(k);
	v = find_value(c, k, name);
	return v ? v->text : k->def;
}

bool conf_bool(const struct conf *c, const char *section, const char *name, const char *key)
{
	const char *s = get(c, section, name, key);
	bool b = false;

	assert(s && parse_bool(s, &b) == 0);
	return b;
}

int64_t conf_int(const struct conf *c, const char *section, const char *name, const char *key)
{
	const char *s = get(c, section, name, key);
	int64_t x = 0;

	assert(s && parse_int(s, &x) == 0);
	return x;
}

const char *conf_text(const struct conf *c, const char *section, const char *name,
		      const char *key)
{
	return get(c, section, name, key);
}

const char *conf_name(const struct conf *c, const char *section, size_t i)
{
	for (size_t k = 0; k < c->n_names; k++)
		if (str_eq(c->names[k].section, section) && i-- == 0)
			return c->names[k].name;
	return NULL;
}

static int note_changes(const struct conf *a, const struct conf *b, struct buf *out)
{
	for (size_t i = 0; i < a->n_values; i++) {
		const struct value *v = &a->values[i];
		const struct value *w = find_value(b, v->key, v->name);
		const char *other = w ? w->text : v->key->def;
		CLEANUP(freep) char *line = NULL;

		if (v->key->reload || str_eq(v->text, other))
			continue;
		if (asprintf(&line, "%s%s%s.%s", v->key->section, v->name ? " " : "",
			     v->name ? v->name : "", v->key->key) < 0)
			return -ENOMEM;
		if (out->p && strstr(out->p, line))
			continue;	/* seen from the other side */
		buf_printf(out, "%s%s", out->n ? ", " : "", line);
	}
	return buf_ok(out) ? 0 : -ENOMEM;
}

int conf_needs_restart(const struct conf *was, const struct conf *now, struct buf *out)
{
	int r = note_changes(was, now, out);

	return r < 0 ? r : note_changes(now, was, out);
}

void conf_diff(const struct conf *was, const struct conf *now, conf_see_fn *see, void *arg)
{
	for (size_t i = 0; i < was->n_values; i++) {
		const struct value *v = &was->values[i], *w = find_value(now, v->key, v->name);
		const char *text = w ? w->text : v->key->def;

		if (!str_eq(v->text, text))
			see(arg, v->key, v->name, v->text, text);
	}
	for (size_t i = 0; i < now->n_values; i++) {
		const struct value *v = &now->values[i];

		if (!find_value(was, v->key, v->name) && !str_eq(v->text, v->key->def))
			see(arg, v->key, v->name, v->key->def, v->text);
	}
}

static void each_of(const struct conf *c, const struct conf_section *s, const char *name,
		    conf_see_fn *see, void *arg)
{
	for (const struct conf_key *k = c->table->keys; k->key; k++) {
		const struct value *v = str_eq(k->section, s->name) ? find_value(c, k, name) : NULL;

		if (str_eq(k->section, s->name))
			see(arg, k, name, k->def, v ? v->text : k->def);
	}
}

void conf_each(const struct conf *c, conf_see_fn *see, void *arg)
{
	for (const struct conf_section *s = c->table->sections; s->name; s++) {
		const char *name;

		if (!s->named)
			each_of(c, s, NULL, see, arg);
		for (size_t i = 0; s->named && (name = conf_name(c, s->name, i)); i++)
			each_of(c, s, name, see, arg);
	}
}

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
