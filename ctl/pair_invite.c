/* pair_invite.c - the router's side of hearthctl pair: invite, list, remove.
 *
 * invite makes the box's keys and lets its public key in; the rest travels as one word over
 * a way that a person trusts:	hearthctl pair invite b2 | ssh b2 sudo hearthctl pair join
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/file.h"
#include "ctl/pair.h"
#include "ctl/program.h"
#include "ctl/table.h"
#include "lib/own.h"

/* ---- where the router keeps its keys ------------------------------------------------------- */

struct place {
	char curve[PATH_MAX], allow[PATH_MAX];
	char listen[512];		/* the bus; "": not known */
	bool runs;			/* the router answered */
	bool configured;		/* with both files */
};

static const char *value_of(const json_t *v, const char *key)
{
	const json_t *list = json_object_get(v, "values");

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *o = json_array_get(list, i);

		if (!strcmp(ctl_text(o, "section"), "bus") && !strcmp(ctl_text(o, "key"), key))
			return ctl_text(o, "value");
	}
	return "";
}

static int find_place(const struct ctl *c, struct place *ret, struct err *e)
{
	JX_OWNED json_t *v = NULL;
	const char *curve, *allow;
	int r;

	if (!ctl_is_here(c))
		return err_set(e, -EINVAL,
			       "the router's keys are on its machine: run this there (ssh)");
	r = ctl_ask(c, "/admin/config", NULL, NULL, &v, e);
	*ret = (struct place){ .runs = r == 0 };
	if (r < 0 && r != -ECONNREFUSED)
		return r;
	curve = value_of(v, "curve_file");
	allow = value_of(v, "curve_allow_file");
	if (!strncmp(curve, "credential:", 11) || !strncmp(allow, "credential:", 11))
		return err_set(e, -EBADMSG,
			       "the router's CURVE keys are credentials of its service "
			       "manager, which hearthctl does not edit: see operations, Secrets");
	ret->configured = *curve && *allow;
	snprintf(ret->listen, sizeof(ret->listen), "%s", value_of(v, "listen"));
	if (*curve)
		snprintf(ret->curve, PATH_MAX, "%s", curve);
	else
		snprintf(ret->curve, PATH_MAX, "%s/curve", c->etc);
	if (*allow)
		snprintf(ret->allow, PATH_MAX, "%s", allow);
	else
		snprintf(ret->allow, PATH_MAX, "%s/curve-allow", c->etc);
	return 0;
}

/* ---- the router's own pair ------------------------------------------------------------------- */

static int make_own(const char *path, char ret_public[LINK_KEY], struct err *e)
{
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	char secret[LINK_KEY];
	int r = link_make_keys(ret_public, secret);

	if (r < 0)
		return err_set(e, r, "CURVE keys: %s", strerror(-r));
	buf_printf(&text, "%s\n%s\n", ret_public, secret);
	r = buf_ok(&text) ? ctl_replace_file(path, 0640, &text, e) : -ENOMEM;
	explicit_bzero(secret, sizeof(secret));
	if (text.p)
		explicit_bzero(text.p, text.cap);
	return r;
}

static int own_public(const char *path, char ret_public[LINK_KEY], struct err *e)
{
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	char fingerprint[LINK_FINGERPRINT];
	int r = ctl_read_file(path, &text, e);

	if (r == -ENOENT)
		return make_own(path, ret_public, e);
	if (r < 0)
		return r;
	snprintf(ret_public, LINK_KEY, "%.40s", text.n ? text.p : "");
	explicit_bzero(text.p, text.cap);
	return link_fingerprint(ret_public, fingerprint) < 0 ?
		       err_set(e, -EBADMSG, "%s: does not begin with a public key", path) : 0;
}

/* ---- the list ----------------------------------------------------------------------- */

/* A line "KEY  # NAME DATE".  False: a comment, or empty. */
static bool parse_line(const char *line, size_t n, char key[LINK_KEY], char name[65])
{
	char text[512], word[65] = "", hash[65] = "";

	if (n >= sizeof(text))
		return false;
	memcpy(text, line, n);
	text[n] = '\0';
	*name = '\0';
	if (sscanf(text, "%64s %64s %64s", word, hash, name) < 1 || strlen(word) != LINK_KEY - 1)
		return false;
	if (strcmp(hash, "#") != 0)
		*name = '\0';
	memcpy(key, word, LINK_KEY);
	return true;
}

/* Without the lines of `name` (NULL: none); answers how many those were. */
static size_t copy_list(const struct buf *text, const char *name, struct buf *out)
{
	const char *p = text->n ? text->p : "";
	size_t gone = 0;

	while (*p) {
		char key[LINK_KEY], found[65];
		size_t n = strcspn(p, "\n");

		if (name && parse_line(p, n, key, found) && !strcmp(found, name))
			gone++;
		else
			buf_put(out, p, n), buf_putc(out, '\n');
		p += n + (p[n] == '\n');
	}
	return gone;
}

static int allow(const char *path, const struct pair *p, struct err *e)
{
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	CLEANUP(buf_donep) struct buf new = BUF_INIT;
	char date[32];
	time_t now = time(NULL);
	struct tm tm;
	int r = ctl_read_file(path, &text, e);

	if (r < 0 && r != -ENOENT)
		return r;
	if (copy_list(&text, p->name, &new))
		return err_set(e, -EEXIST,
			       "%s: there is a box '%s'; hearthctl pair remove %s first", path,
			       p->name, p->name);
	gmtime_r(&now, &tm);
	strftime(date, sizeof(date), "%F", &tm);
	buf_printf(&new, "%s # %s %s\n", p->own, p->name, date);
	return buf_ok(&new) ? ctl_replace_file(path, 0640, &new, e) : -ENOMEM;
}

/* ---- the configuration -------------------------------------------------------------- */

/* "tcp://router:7420" is where boxes connect; the router binds the port on all its addresses. */
static int write_drop_in(const struct ctl *c, const struct place *at, struct err *e)
{
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	const char *port = strrchr(c->bus, ':');
	char path[PATH_MAX];
	int r;

	buf_printf(&text,
		   "# written by hearthctl pair\n[bus]\ncurve_file = %s\ncurve_allow_file = %s\n",
		   at->curve, at->allow);
	if (!strstr(at->listen, "tcp://"))
		buf_printf(&text, "listen = %s tcp://*%s\n",
			   *at->listen ? at->listen : "ipc:///run/hearth/bus", port);
	snprintf(path, sizeof(path), "%s/hearth.conf.d", c->etc);
	r = ctl_make_folder(path, e);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/hearth.conf.d/pair.conf", c->etc);
	r = buf_ok(&text) ? ctl_replace_file(path, 0644, &text, e) : -ENOMEM;
	if (r == 0)
		fprintf(stderr,
			"wrote %s: the router must restart once, its streams run to their end:\n"
			"  systemctl restart hearth-router\n"
			"From then on every box that comes by tcp:// needs an invitation; this "
			"machine's own,\nby ipc://, needs none.\n",
			path);
	return r;
}

/* So that the list is in effect; the first time it takes a restart, which was said. */
static int tell_router(const struct ctl *c, const struct place *at, struct err *e)
{
	CLEANUP(buf_donep) struct buf body = BUF_INIT;
	JX_OWNED json_t *v = NULL;
	struct err why;
	int r;

	if (c->no_reload || !at->runs || !at->configured)
		return 0;
	buf_puts(&body, "{}");
	r = ctl_ask(c, "/admin/reload", &body, NULL, &v, &why);
	return r < 0 ? err_set(e, r, "%s is changed, but not in effect: %.400s", at->allow,
			       why.text)
		     : 0;
}

/* ---- the commands ------------------------------------------------------------------- */

static int say_fingerprints(const struct pair *p, const char *to)
{
	char own[LINK_FINGERPRINT], server[LINK_FINGERPRINT];

	if (link_fingerprint(p->own, own) < 0 || link_fingerprint(p->server, server) < 0)
		return -EINVAL;
	fprintf(stderr, "router  %s\nbox     %s  (%s)\n%s", server, own, p->name, to);
	return 0;
}

static int print_invitation(const struct ctl *c, const struct pair *p, struct err *e)
{
	CLEANUP(buf_donep) struct buf word = BUF_INIT;
	JX_OWNED json_t *o = NULL;
	char own[LINK_FINGERPRINT] = "", server[LINK_FINGERPRINT] = "";

	if (pair_put(p, &word) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	if (c->json) {
		o = json_object();
		(void)link_fingerprint(p->own, own);
		(void)link_fingerprint(p->server, server);
		ctl_set_text(o, "box", p->name);
		ctl_set_text(o, "box_fingerprint", own);
		ctl_set_text(o, "router_fingerprint", server);
		ctl_set_text(o, "invitation", word.p);
		(void)ctl_print_json(o);
	} else {
		(void)say_fingerprints(
			p, "Give this word to `hearthctl pair join` on the box, by a way "
			   "that nobody else reads:\n");
		puts(word.p);
	}
	explicit_bzero(word.p, word.cap);
	return 0;
}

int ctl_pair_invite(const struct ctl *c, char **argv, struct err *e)
{
	CLEANUP(closep) int lock = -1;
	struct pair p = { 0 };
	struct place at;
	int r;

	if (!pair_name_ok(argv[0]))
		return err_set(e, -EINVAL, "a box's name has at most 64 letters, digits and . _ -");
	if (c->bus && !strncmp(c->bus, "ipc://", 6))
		return err_set(e, -EINVAL, "a box on the router's own machine needs no invitation: "
			       "box.router and worker.connect = %s, and the group hearth", c->bus);
	if (!c->bus || strncmp(c->bus, "tcp://", 6) || strlen(c->bus) >= sizeof(p.endpoint) ||
	    strpbrk(c->bus, " \t") || !strchr(c->bus + 6, ':'))
		return err_set(e, -EINVAL, "say where the box reaches this router: --bus "
			       "tcp://HOST:PORT");
	snprintf(p.name, sizeof(p.name), "%s", argv[0]);
	snprintf(p.endpoint, sizeof(p.endpoint), "%s", c->bus);
	r = find_place(c, &at, e);
	if (r < 0)
		return r;
	lock = ctl_lock_folder(at.allow, e);
	if (lock < 0)
		return lock;
	r = own_public(at.curve, p.server, e);
	if (r == 0 && link_make_keys(p.own, p.secret) < 0)
		r = err_set(e, -ENOTSUP, "ZeroMQ was built without CURVE");
	if (r == 0)
		r = allow(at.allow, &p, e);
	if (r == 0 && !at.configured)
		r = write_drop_in(c, &at, e);
	if (r == 0)
		r = tell_router(c, &at, e);
	if (r == 0)
		r = print_invitation(c, &p, e);
	explicit_bzero(&p, sizeof(p));
	return r;
}

int ctl_pair_list(const struct ctl *c, char **argv, struct err *e)
{
	static const struct ctl_column columns[] = { { "BOX", "name", false },
						     { "FINGERPRINT", "fingerprint", false },
						     { NULL, NULL, false } };
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	JX_OWNED json_t *list = json_array();
	struct place at;
	int r = find_place(c, &at, e);

	(void)argv;
	if (r == 0)
		r = ctl_read_file(at.allow, &text, e);
	if (r < 0 && r != -ENOENT)
		return r;
	for (const char *p = text.n ? text.p : ""; *p;) {
		char key[LINK_KEY], name[65], fingerprint[LINK_FINGERPRINT] = "not a key";
		size_t n = strcspn(p, "\n");

		if (parse_line(p, n, key, name)) {
			json_t *o = json_object();

			(void)link_fingerprint(key, fingerprint);
			ctl_set_text(o, "name", name);
			ctl_set_text(o, "fingerprint", fingerprint);
			ctl_set_text(o, "key", key);
			json_array_append_new(list, o);
		}
		p += n + (p[n] == '\n');
	}
	r = c->json ? ctl_print_json(list) : ctl_print_table(columns, list);
	return r < 0 ? err_set(e, r, "out of memory") : 0;
}

int ctl_pair_remove(const struct ctl *c, char **argv, struct err *e)
{
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	CLEANUP(buf_donep) struct buf new = BUF_INIT;
	CLEANUP(closep) int lock = -1;
	struct place at;
	int r = find_place(c, &at, e);

	if (r == 0)
		r = lock = ctl_lock_folder(at.allow, e);
	if (r >= 0)
		r = ctl_read_file(at.allow, &text, e);
	if (r < 0)
		return r;
	if (!copy_list(&text, argv[0], &new))
		return err_set(e, -ESRCH, "%s: there is no box '%s'", at.allow, argv[0]);
	r = buf_ok(&new) ? ctl_replace_file(at.allow, 0640, &new, e) : -ENOMEM;
	if (r == 0)
		r = tell_router(c, &at, e);
	if (r < 0)
		return r;
	if (c->json)
		puts("{\"ok\": true}");
	else
		printf("'%s' cannot connect any more, and is cut off%s\n", argv[0],
		       at.runs && !c->no_reload ? "" : " when the router reads the list");
	return 0;
}
