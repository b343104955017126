/* life_uplink.c - what the router says: commands, use, that it is there. */
#include <errno.h>
#include <string.h>

#include "daemon/life_int.h"
#include "lib/clock.h"
#include "lib/log.h"

static void on_up(void *arg, bool up)
{
	struct life *l = arg;

	launcher_router(l->launcher, up, clock_ns());
	if (up)
		life_report(l);
	l->said_version = 0;
	life_soon(l);
}

static int obey(struct life *l, Hw__BoxVerb verb, const char *alias, struct err *e)
{
	uint64_t now = clock_ns();

	switch (verb) {
	case HW__BOX_VERB__DEMAND:
		launcher_demand(l->launcher, alias, now);
		return 0;
	case HW__BOX_VERB__LOAD:
		return launcher_load(l->launcher, alias, now, e);
	case HW__BOX_VERB__UNLOAD:
		return launcher_unload(l->launcher, alias, now, e);
	case HW__BOX_VERB__DRAIN:
		return launcher_drain(l->launcher, alias, now, e);
	default:
		return launcher_undrain(l->launcher, alias, now, e);
	}
}

/* All of the box's models; those for which there is nothing to do are no failure. */
static int obey_all(struct life *l, Hw__BoxVerb verb, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < launcher_count(l->launcher); i++) {
		struct err mine;
		int one = obey(l, verb, launcher_at(l->launcher, i)->alias, &mine);

		if (one < 0 && one != -EALREADY && r == 0) {
			r = one;
			*e = mine;
		}
	}
	return r;
}

static void on_command(void *arg, const Hw__BoxCommand *c)
{
	static const char *const names[] = { "", "demand", "load", "unload", "drain", "undrain" };
	struct life *l = arg;
	struct err e = { 0 };
	int r = !strcmp(c->alias, "*") ? obey_all(l, c->verb, &e) : obey(l, c->verb, c->alias, &e);

	if (c->verb != HW__BOX_VERB__DEMAND)
		log_note("router: %s %s%s%s", names[c->verb], c->alias, r < 0 ? ": " : "",
			 r < 0 ? e.text : "");
	/* first the state after it, so that who asks for it next sees it */
	life_on_turn(-1, 0, l);
	uplink_reply(l->uplink, c->request, r == 0 || r == -EALREADY, r < 0 ? e.text : NULL);
}

static void on_use(void *arg, const Hw__BoxUse *u)
{
	struct life *l = arg;

	for (size_t i = 0; i < u->n_use; i++)
		launcher_use(l->launcher, u->use[i]->alias, u->use[i]->in_flight,
			     u->use[i]->waiting, clock_ns());
	life_soon(l);
}

static void on_beat(void *arg)
{
	life_report(arg);
}

static int read_secret(const struct box_conf *b, char ret[LINK_KEY], struct err *e)
{
	int r = b->curve_public ? link_read_secret(b->curve_secret_file, ret, e) : 0;

	return r < 0 ? err_prefix(e, r, "box.curve_secret_file") : 0;
}

int life_check_secret(const struct box_conf *b, struct err *e)
{
	char secret[LINK_KEY];
	int r = read_secret(b, secret, e);

	explicit_bzero(secret, sizeof(secret));
	return r;
}

int life_open_uplink(struct life *l, struct err *e)
{
	const struct box_conf *b = l->conf;
	const struct uplink_hooks h = { .up = on_up, .command = on_command, .use = on_use,
					.beat = on_beat, .arg = l };
	const struct link_curve curve = { .own_public = b->curve_public,
					  .own_secret = l->curve_secret,
					  .server_public = b->curve_server };
	int r = read_secret(b, l->curve_secret, e);

	if (r == 0)
		r = uplink_open(l->base, b->router, b->curve_public ? &curve : NULL, b->name, &h,
				&l->uplink, e);
	explicit_bzero(l->curve_secret, sizeof(l->curve_secret));	/* the link has its own */
	return r;
}
