/* keys.c - hearthctl keys list | add | remove: the file of API keys, and the router told of it.
 *
 * A key is shown once, when it is made.  The file keeps lines NAME KEY [ROLE]; what a person wrote
 * into it besides (comments, order) stays.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "ctl/ctl.h"
#include "ctl/file.h"
#include "ctl/table.h"
#include "lib/own.h"

enum { KEY_BYTES = 32, MAX_NAME = 64 };

/* ---- which file -------------------------------------------------------------------------- */

static const char *configured(const json_t *v)
{
	const json_t *list = json_object_get(v, "values");

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *o = json_array_get(list, i);

		if (!strcmp(ctl_text(o, "section"), "http") &&
		    !strcmp(ctl_text(o, "key"), "keys_file"))
			return ctl_text(o, "value");
	}
	return "";
}

/* --keys-file, or what the router says, or where it usually is. */
static int find_file(const struct ctl *c, char ret[PATH_MAX], struct err *e)
{
	JX_OWNED json_t *v = NULL;
	const char *name;
	int r;

	if (c->keys_file) {
		snprintf(ret, PATH_MAX, "%s", c->keys_file);
		return 0;
	}
	if (!ctl_is_here(c))
		return err_set(e, -EINVAL,
			       "the file of keys is on the router's machine: run this there "
			       "(ssh), or give --keys-file");
	r = ctl_ask(c, "/admin/config", NULL, NULL, &v, e);
	if (r == -ECONNREFUSED) {
		snprintf(ret, PATH_MAX, "%s/keys", c->etc);
		return 0;
	}
	if (r < 0)
		return r;
	name = configured(v);
	if (!*name)
		return err_set(e, -EBADMSG, "the router has no file of keys: write keys_file = "
			       "%s/keys below [http] in %s/hearth.conf.d/keys.conf, or give "
			       "--keys-file", c->etc, c->etc);
	if (!strncmp(name, "credential:", 11))
		return err_set(
			e, -EBADMSG,
			"the router's keys are %s, which a service manager hands "
			"over at start: give the file behind it with --keys-file, then restart "
			"the router",
			name);
	snprintf(ret, PATH_MAX, "%s", name);
	return 0;
}

/* ---- its lines ------------------------------------------------------------------------------- */

/* The name in a line of n bytes; 0: a comment or an empty one. */
static size_t name_in(const char *line, size_t n, const char **ret)
{
	size_t at = 0, len = 0;

	while (at < n && (line[at] == ' ' || line[at] == '\t'))
		at++;
	while (at + len < n && !strchr(" \t\r#", line[at + len]))
		len++;
	*ret = line + at;
	return len;
}

/* The role in the same line, as the router reads it: what stands behind NAME KEY. */
static const char *role_in(const char *line, size_t n)
{
	static const char blank[] = " \t\r";
	const char *word = line;
	size_t left = n, len = 0;

	for (int i = 0; i < 3; i++) {
		word += len;
		left -= len;
		for (; left && strchr(blank, *word); left--)
			word++;
		for (len = 0; len < left && !strchr(" \t\r#", word[len]);)
			len++;
	}
	return len == 5 && !strncmp(word, "admin", len) ? "admin" : "client";
}

/* Copies the lines without those of `name` (NULL: none) to out; counts both kinds. */
static void copy_lines(const struct buf *text, const char *name, struct buf *out, size_t *ret_kept,
		       size_t *ret_gone)
{
	const char *p = text->n ? text->p : "", *end = p + text->n;

	*ret_kept = *ret_gone = 0;
	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p)), *found;
		size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p), len = name_in(p, n, &found);

		if (name && len == strlen(name) && !strncmp(found, name, len)) {
			(*ret_gone)++;
		} else {
			*ret_kept += len > 0;
			buf_put(out, p, n);
			buf_putc(out, '\n');
		}
		p += n + (nl != NULL);
	}
}

static void wipe(struct buf *b)
{
	if (b->p)
		explicit_bzero(b->p, b->cap);
	buf_done(b);
}

static bool name_ok(const char *s)
{
	return *s && strlen(s) <= MAX_NAME &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@-") ==
		       strlen(s);
}

/* "hk-" and 256 random bits, in letters that survive a shell and a URL. */
static int make_key(char ret[64])
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	unsigned char b[KEY_BYTES + 1] = { 0 };
	size_t at = 3;

	if (getrandom(b, KEY_BYTES, 0) != KEY_BYTES)
		return -EIO;
	memcpy(ret, "hk-", 3);
	for (size_t i = 0; i < KEY_BYTES; i += 3) {
		unsigned x = (unsigned)b[i] << 16 |
			     (i + 1 < KEY_BYTES ? (unsigned)b[i + 1] << 8 : 0) |
			     (i + 2 < KEY_BYTES ? b[i + 2] : 0);

		for (int k = 18; k >= 0 && at < 3 + (KEY_BYTES * 8 + 5) / 6; k -= 6)
			ret[at++] = digits[x >> k & 63];
	}
	ret[at] = '\0';
	explicit_bzero(b, sizeof(b));
	return 0;
}

/* ---- the file itself ----------------------------------------------------------------------- */

/* One that is not there is a mistake of the configuration that names it. */
static int say_missing(int r, const char *file, struct err *e)
{
	return r != -ENOENT ? r : err_set(e, -EBADMSG, "%s: %s (the file of API keys)", file,
					  strerror(ENOENT));
}

/* ---- the router is told ------------------------------------------------------------- */

/* The file is changed already, whatever comes of this. */
static int tell_router(const struct ctl *c, const char *file, struct err *e)
{
	CLEANUP(buf_donep) struct buf body = BUF_INIT;
	JX_OWNED json_t *v = NULL;
	struct err why = { 0 };
	int r;

	if (c->no_reload)
		return 0;
	buf_puts(&body, "{}");
	r = ctl_ask(c, "/admin/reload", &body, NULL, &v, &why);
	if (r == -ECONNREFUSED) {
		fprintf(stderr, "hearthctl: no router at %s; it will read %s when it starts\n",
			c->url, file);
		return 0;
	}
	return r < 0 ? err_set(e, r, "%s is changed, but not in effect: %.400s", file, why.text)
		     : 0;
}

/* ---- the commands ------------------------------------------------------------------- */

int ctl_keys_list(const struct ctl *c, char **argv, struct err *e)
{
	static const struct ctl_column columns[] = { { "NAME", "name", false },
						     { "ROLE", "role", false },
						     { "LINE", "line", true },
						     { NULL, NULL, false } };
	struct buf text = BUF_INIT;
	JX_OWNED json_t *list = json_array();
	char file[PATH_MAX];
	int line_no = 0, r = find_file(c, file, e);

	(void)argv;
	if (r == 0)
		r = say_missing(ctl_read_file(file, &text, e), file, e);
	for (const char *p = text.p; r == 0 && p && p < text.p + text.n;) {
		const char *found;
		size_t n = strcspn(p, "\n"), len = name_in(p, n, &found);
		json_t *o;

		line_no++;
		if (len) {
			o = json_object();
			json_object_set_new(o, "name", jx_str_new(found, len));
			ctl_set_text(o, "role", role_in(p, n));
			ctl_set_int(o, "line", line_no);
			json_array_append_new(list, o);
		}
		p += n + (p[n] == '\n');
	}
	wipe(&text);
	if (r < 0)
		return r;
	r = c->json ? ctl_print_json(list) : ctl_print_table(columns, list);
	return r < 0 ? err_set(e, r, "out of memory") : 0;
}

static int append_key(const char *file, const char *name, const char *key, const char *role,
		      struct err *e)
{
	CLEANUP(closep) int lock = ctl_lock_folder(file, e);
	struct buf text = BUF_INIT, new = BUF_INIT;
	size_t kept, gone;
	int r = lock < 0 ? lock : ctl_read_file(file, &text, e);

	r = r == -ENOENT && lock >= 0 ? 0 : say_missing(r, file, e);
	if (r == 0) {
		copy_lines(&text, name, &new, &kept, &gone);
		buf_clear(&new);
		if (gone)
			r = err_set(e, -EEXIST, "%s: there is a key '%s'; remove it first", file,
				    name);
		copy_lines(&text, NULL, &new, &kept, &gone);
		/* a client's line is as it was before there were roles */
		buf_printf(&new, strcmp(role, "admin") ? "%s %s\n" : "%s %s admin\n", name, key);
		if (r == 0 && !buf_ok(&new))
			r = err_set(e, -ENOMEM, "out of memory");
	}
	if (r == 0)
		r = ctl_replace_file(file, 0640, &new, e);
	wipe(&text);
	wipe(&new);
	return r;
}

/* Shows it, this once, and has the router take it: a person sees it at once; a script gets one
 * answer, which has the key whatever the router said. */
static int show_key(const struct ctl *c, const char *file, const char *name, const char *key,
		    const char *role, struct err *e)
{
	JX_OWNED json_t *o = NULL;
	int r;

	if (!c->json) {
		puts(key);
		fflush(stdout);
		fprintf(stderr, "This is the key of '%s', role %s. It will not be shown again.\n",
			name, role);
		return tell_router(c, file, e);
	}
	o = json_object();
	ctl_set_text(o, "name", name);
	ctl_set_text(o, "role", role);
	ctl_set_text(o, "key", key);
	r = tell_router(c, file, e);
	if (r < 0)
		return ctl_fail(c, o, r, e);
	return ctl_print_json(o) < 0 ? err_set(e, -ENOMEM, "out of memory") : 0;
}

int ctl_keys_add(const struct ctl *c, char **argv, struct err *e)
{
	const char *role = c->role ? c->role : "client";
	char file[PATH_MAX], key[64];
	int r;

	if (!name_ok(argv[0]))
		return err_set(e, -EINVAL, "a name has at most %d letters, digits and . _ @ -",
			       MAX_NAME);
	if (strcmp(role, "client") != 0 && strcmp(role, "admin") != 0)
		return err_set(e, -EINVAL, "--role is client or admin");
	r = find_file(c, file, e);
	if (r == 0 && make_key(key) < 0)
		r = err_set(e, -EIO, "no random numbers");
	if (r == 0)
		r = append_key(file, argv[0], key, role, e);
	if (r < 0)
		return r;
	r = show_key(c, file, argv[0], key, role, e);
	explicit_bzero(key, sizeof(key));
	return r;
}

static int remove_key(const char *file, const char *name, struct err *e)
{
	CLEANUP(closep) int lock = ctl_lock_folder(file, e);
	struct buf text = BUF_INIT, new = BUF_INIT;
	size_t kept = 0, gone = 0;
	int r = say_missing(lock < 0 ? lock : ctl_read_file(file, &text, e), file, e);

	if (r == 0) {
		copy_lines(&text, name, &new, &kept, &gone);
		if (!gone)
			r = err_set(e, -ESRCH, "%s: there is no key '%s'", file, name);
		else if (!kept)
			r = err_set(e, -EBUSY,
				    "%s: '%s' is the last key, and a router with a file "
				    "of keys takes none that is empty: add another first",
				    file, name);
		else if (!buf_ok(&new))
			r = err_set(e, -ENOMEM, "out of memory");
	}
	if (r == 0)
		r = ctl_replace_file(file, 0640, &new, e);
	wipe(&text);
	wipe(&new);
	return r;
}

int ctl_keys_remove(const struct ctl *c, char **argv, struct err *e)
{
	char file[PATH_MAX];
	int r = find_file(c, file, e);

	if (r == 0)
		r = remove_key(file, argv[0], e);
	if (r == 0)
		r = tell_router(c, file, e);
	if (r < 0)
		return r;
	if (c->json)
		puts("{\"ok\": true}");
	else
		printf("removed '%s'; its answers under way are finished\n", argv[0]);
	return 0;
}
