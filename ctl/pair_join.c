/* pair_join.c - the box's side of hearthctl pair: takes an invitation, writes keys and
 * configuration, and tries them against the router.
 */
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ctl.h"
#include "ctl/file.h"
#include "ctl/pair.h"
#include "ctl/program.h"
#include "ctl/table.h"
#include "lib/clock.h"
#include "lib/own.h"

enum { TRY_MS = 5000 };

static int read_word(const char *given, char ret[PAIR_MAX_WORD], struct err *e)
{
	if (!given && isatty(STDIN_FILENO))
		fputs("invitation: ", stderr);
	if (given)
		snprintf(ret, PAIR_MAX_WORD, "%s", given);
	else if (!fgets(ret, PAIR_MAX_WORD, stdin))
		return err_set(e, -EINVAL, "no invitation came on standard input");
	ret[strcspn(ret, " \r\n")] = '\0';
	return 0;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int write_file(const char *etc, const char *name, mode_t mode, struct buf *text,
		      struct err *e)
{
	char path[PATH_MAX], *slash;
	int r;

	if (!buf_ok(text) || snprintf(path, sizeof(path), "%s/%s", etc, name) >= (int)sizeof(path))
		return err_set(e, -ENOMEM, "out of memory");
	slash = strrchr(path, '/');
	*slash = '\0';
	r = ctl_make_folder(path, e);
	*slash = '/';
	return r < 0 ? r : ctl_replace_file(path, mode, text, e);
}

static void put_keys(const struct ctl *c, const struct pair *p, struct buf *out)
{
	buf_printf(out,
		   "curve_public = %s\ncurve_secret_file = %s/curve-secret\ncurve_server = %s\n",
		   p->own, c->etc, p->server);
}

static int write_files(const struct ctl *c, const struct pair *p, struct err *e)
{
	CLEANUP(buf_donep) struct buf daemon = BUF_INIT;
	CLEANUP(buf_donep) struct buf worker = BUF_INIT;
	CLEANUP(buf_donep) struct buf secret = BUF_INIT;
	int r;

	buf_printf(&secret, "%s\n", p->secret);
	buf_printf(&daemon, "# written by hearthctl pair\n[box]\nname = %s\nrouter = %s\n", p->name,
		   p->endpoint);
	put_keys(c, p, &daemon);
	buf_printf(&worker, "# written by hearthctl pair\n[worker]\nconnect = %s\n", p->endpoint);
	put_keys(c, p, &worker);
	r = write_file(c->etc, "curve-secret", 0640, &secret, e);
	if (secret.p)
		explicit_bzero(secret.p, secret.cap);
	if (r == 0)
		r = write_file(c->etc, "hearthd.conf.d/pair.conf", 0644, &daemon, e);
	if (r == 0)
		r = write_file(c->etc, "worker.conf.d/pair.conf", 0644, &worker, e);
	return r;
}

/* ---- whether it works --------------------------------------------------------------- */

/* 0: the router is there, has the key it said, and lets us in. */
static int try_link(const struct pair *p, struct err *e)
{
	const struct link_curve curve = { .own_public = p->own, .own_secret = p->secret,
					  .server_public = p->server };
	const uint64_t end = clock_ns() + TRY_MS * NS_PER_MS;
	struct link_client *l;
	struct link_in in;
	int r = link_client_open(p->endpoint, &curve, &l, e);

	if (r < 0)
		return r;
	for (r = -ETIMEDOUT; r < 0 && clock_ns() < end;) {
		struct pollfd f = { .fd = link_client_fd(l), .events = POLLIN };

		while (r < 0 && link_client_recv(l, &in) == 0) {
			if (in.event == LINK_NEW)
				r = 0;
			else if (in.event == LINK_MESSAGE)
				wire_msg_done(&in.msg);
		}
		if (r < 0)
			(void)poll(&f, 1, 100);
	}
	link_client_close(l);
	return r == 0 ? 0
		      : err_set(e, -ECONNREFUSED,
				"the files are written, but %s did not let this "
				"box in within %d s: is the router up, restarted since its first "
				"invitation, and its port open?",
				p->endpoint, TRY_MS / 1000);
}

static void restart_services(const struct ctl *c)
{
	char *const argv[] = {"systemctl", "try-restart", "hearthd.service",
			      "hearth-worker@*.service", NULL};
	CLEANUP(buf_donep) struct buf said = BUF_INIT;
	struct err e;

	if (c->no_reload || access("/run/systemd/system", F_OK) < 0 ||
	    strcmp(c->etc, "/etc/hearth"))
		return;
	if (program_run(argv, &said, &e) != 0)
		fprintf(stderr, "hearthctl: not restarted: %s\n", said.n ? said.p : e.text);
}

static int report(const struct ctl *c, const struct pair *p)
{
	char own[LINK_FINGERPRINT] = "", server[LINK_FINGERPRINT] = "";
	JX_OWNED json_t *o = NULL;

	(void)link_fingerprint(p->own, own);
	(void)link_fingerprint(p->server, server);
	if (!c->json) {
		printf("router  %s\nbox     %s  (%s)\njoined: %s lets this box in\n", server, own,
		       p->name, p->endpoint);
		return 0;
	}
	o = json_object();
	ctl_set_text(o, "box", p->name);
	ctl_set_text(o, "router", p->endpoint);
	ctl_set_text(o, "box_fingerprint", own);
	ctl_set_text(o, "router_fingerprint", server);
	return ctl_print_json(o);
}

int ctl_pair_join(const struct ctl *c, char **argv, struct err *e)
{
	char word[PAIR_MAX_WORD];
	struct pair p;
	int r = read_word(argv[0], word, e);

	if (r == 0)
		r = pair_parse(word, &p, e);
	explicit_bzero(word, sizeof(word));
	if (r < 0)
		return r;
	r = write_files(c, &p, e);
	if (r == 0)
		r = try_link(&p, e);
	if (r == 0)
		r = report(c, &p);
	if (r == 0)
		restart_services(c);
	explicit_bzero(&p, sizeof(p));
	return r;
}
