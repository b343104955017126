/* fail.c - how a failure is told: a line on stderr, with --json an object on stdout, a status. */
#include <stdio.h>
#include <string.h>

#include "ctl/ctl.h"
#include "ctl/table.h"
#include "lib/own.h"

int ctl_exit_status(int r)
{
	switch (r) {
	case -EINVAL:
	case -EEXIST: return EXIT_USAGE;
	case -ESRCH: return EXIT_NOTHING;
	case -EACCES:
	case -EPERM: return EXIT_NOT_ALLOWED;
	case -EBADMSG: return EXIT_CONFIG;
	default: return r < 0 ? EXIT_UNAVAILABLE : r;
	}
}

/* By way of text, so that what is not UTF-8 (a file's name) loses no more than itself. */
static json_t *make_error(const char *text, int status)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	json_t *v = NULL;

	buf_puts(&b, "{\"message\":");
	jx_put_str(&b, text, strlen(text));
	buf_printf(&b, ",\"exit_status\":%d}", status);
	if (buf_ok(&b))
		(void)jx_load(b.p, b.n, &v, NULL);
	return v;
}

int ctl_fail(const struct ctl *c, json_t *o, int r, const struct err *e)
{
	JX_OWNED json_t *answer = o ? json_incref(o) : json_object();
	const char *text = *e->text ? e->text : strerror(-r);

	fprintf(stderr, "hearthctl: %s\n", text);
	if (c->json) {
		json_object_set_new(answer, "error", make_error(text, ctl_exit_status(r)));
		(void)ctl_print_json(answer);
	}
	return ctl_exit_status(r);
}
