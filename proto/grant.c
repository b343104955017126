/* grant.c - see grant.h. */
#include "proto/grant.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "lib/bytes.h"
#include "lib/clock.h"
#include "lib/meminfo.h"
#include "lib/own.h"
#include "proto/box_wire.h"

enum { TELL_MS = 500, TEXT = 2304 };

/* A hearthd that is restarted is back within this; one that is not, is not coming. */
#define PATIENCE_NS (20 * NS_PER_S)
#define AGAIN_NS    (NS_PER_S / 2)

struct grant {
	char *socket, *alias, *device, *model;
	struct grant_budget budget;
	int fd;
	uint64_t lease, floor, taken;
	enum grant_level level;
	uint64_t again_ns;		/* not connected: try then */
	bool lost_told, confirmed;
	char text[TEXT];
};

struct grant *grant_free(struct grant *g)
{
	if (!g)
		return NULL;
	if (g->fd >= 0)
		close(g->fd);
	free(g->socket);
	free(g->alias);
	free(g->device);
	free(g->model);
	free(g);
	return NULL;
}

static void grant_freep(struct grant **g)
{
	grant_free(*g);
}

static int copy(char **ret, const char *text)
{
	*ret = text ? strdup(text) : NULL;
	return text && !*ret ? -ENOMEM : 0;
}

static int new_grant(const struct grant_request *q, struct grant **ret)
{
	CLEANUP(grant_freep) struct grant *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->fd = -1;
	g->level = GRANT_GREEN;
	g->budget = q->budget;
	if (copy(&g->socket, q->socket) < 0 || copy(&g->alias, q->alias) < 0 ||
	    copy(&g->device, q->device) < 0 || copy(&g->model, q->model) < 0)
		return -ENOMEM;
	*ret = TAKE(g);
	return 0;
}

static void disconnect(struct grant *g)
{
	if (g->fd >= 0)
		close(g->fd);
	g->fd = -1;
	g->confirmed = false;
}

static int present(struct grant *g)
{
	const struct grant_budget *b = &g->budget;
	Hb__Present p = HB__PRESENT__INIT;
	int r;

	p.alias = g->alias;
	p.device = g->device;
	p.model = g->model;
	p.weights = b->weights;
	p.kv = b->kv;
	p.states = b->states;
	p.workspace = b->workspace;
	p.has_graphs = p.has_pinned = 1;
	p.graphs = b->graphs;
	p.pinned = b->pinned;
	p.has_lease = g->lease != 0;
	p.lease = g->lease;
	g->fd = box_connect(g->socket);
	if (g->fd < 0) {
		r = g->fd;
		g->fd = -1;
		return r;
	}
	if (fcntl(g->fd, F_SETFL, O_NONBLOCK) < 0)
		r = -errno;
	else
		r = box_send(g->fd, BOX_PRESENT, &p.base);
	if (r < 0)
		disconnect(g);
	return r;
}

static void send_taken(struct grant *g)
{
	Hb__Taken t = HB__TAKEN__INIT;

	t.bytes = g->taken;
	/* a full socket or a dead peer: it is sent again with the next one, or on reconnect */
	if (g->fd >= 0)
		(void)box_send(g->fd, BOX_TAKEN, &t.base);
}

/* ---- asking --------------------------------------------------------------------------- */

static int say(const struct grant_request *q, const char *text)
{
	return q->wait ? q->wait(q->ctx, text) : 0;
}

/* 1: granted. */
static int take_answer(struct grant *g, const struct grant_request *q, struct err *e)
{
	struct box_msg m;
	int r = box_recv(g->fd, BOX_FROM_DAEMON, &m, e);

	if (r < 0)
		return r;
	switch (m.type) {
	case BOX_GRANTED:
		g->lease = m.body.granted->lease;
		g->floor = m.body.granted->floor;
		g->confirmed = true;
		r = m.body.granted->text ? say(q, m.body.granted->text) : 0;
		r = r ? r : 1;
		break;
	case BOX_REFUSED:
		(void)say(q, m.body.refused->text);
		r = err_set(e, -EDQUOT, "%s", m.body.refused->text);
		break;
	case BOX_WAITING:
		r = say(q, m.body.waiting->text);
		break;
	case BOX_LEVEL:
		g->level = (enum grant_level)m.body.level->level;
		break;
	default:
		r = err_set(e, -EPROTO, "hearthd answers a question that was not asked");
	}
	box_msg_done(&m);
	return r;
}

static int wait_answer(struct grant *g, const struct grant_request *q, struct err *e)
{
	struct pollfd p = { .fd = g->fd, .events = POLLIN };
	int r = 0;

	while (r == 0) {
		int n = poll(&p, 1, TELL_MS);

		if (n > 0)
			r = take_answer(g, q, e);
		else if (n == 0)
			r = say(q, NULL);
		else if (errno != EINTR)
			r = -errno;
		if (r == -EAGAIN)
			r = 0;
	}
	return r;
}

static bool may_come_back(int r)
{
	return r == -ECONNREFUSED || r == -ECONNRESET || r == -EPIPE || r == -EAGAIN;
}

int grant_ask(const struct grant_request *q, struct grant **ret, struct err *e)
{
	CLEANUP(grant_freep) struct grant *g = NULL;
	uint64_t heard = clock_ns();
	int r;

	if (new_grant(q, &g) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	for (;;) {
		r = present(g);
		if (r == 0) {
			heard = clock_ns();
			r = wait_answer(g, q, e);
			if (r == 1)
				break;
		} else {
			err_set(e, r, "hearthd at %s: %s", q->socket, strerror(-r));
		}
		disconnect(g);
		if (!may_come_back(r))
			return r;
		if (clock_ns() - heard > PATIENCE_NS)
			return err_set(e, -ETIMEDOUT, "hearthd at %s does not answer: %s",
				       q->socket, strerror(-r));
		poll(NULL, 0, TELL_MS);
		r = say(q, NULL);
		if (r)
			return r;
	}
	*ret = TAKE(g);
	return 0;
}

/* ---- allocating --------------------------------------------------------------------------- */

int grant_room(const struct grant *g, uint64_t more, struct err *e)
{
	struct meminfo m;
	int r = meminfo_read(NULL, &m, e);

	if (r < 0)
		return r;
	if (m.available >= g->floor && m.available - g->floor >= more)
		return 0;
	return err_set(e, -EDQUOT, "%s stops allocating: MemAvailable is %s, the next %s would go "
		       "below the floor of %s", g->alias, BYTES(m.available), BYTES(more),
		       BYTES(g->floor));
}

void grant_taken(struct grant *g, uint64_t bytes)
{
	g->taken = bytes;
	send_taken(g);
}

/* ---- in service ------------------------------------------------------------------------------ */

int grant_fd(const struct grant *g)
{
	return g->fd;
}

enum grant_level grant_level(const struct grant *g)
{
	return g->level;
}

uint64_t grant_due(const struct grant *g)
{
	return g->fd < 0 ? g->again_ns : UINT64_MAX;
}

static bool lose(struct grant *g, uint64_t now, const char *why)
{
	bool first = !g->lost_told;

	disconnect(g);
	g->again_ns = now + AGAIN_NS;
	/* nobody is there to say that it is over */
	g->level = GRANT_GREEN;
	g->lost_told = true;
	if (first)
		snprintf(g->text, sizeof(g->text), "hearthd: %s; the lease is presented again when "
			 "it is back", why);
	return first;
}

static bool take_word(struct grant *g, const struct box_msg *m)
{
	switch (m->type) {
	case BOX_GRANTED:
		g->lease = m->body.granted->lease;
		g->floor = m->body.granted->floor;
		g->confirmed = true;
		if (g->taken)
			send_taken(g);
		if (!g->lost_told)
			return false;
		g->lost_told = false;
		snprintf(g->text, sizeof(g->text), "hearthd is back: lease %" PRIu64 " holds",
			 g->lease);
		return true;
	case BOX_REFUSED:
		snprintf(g->text, sizeof(g->text), "hearthd does not know this lease: %.2000s",
			 m->body.refused->text);
		return true;
	case BOX_LEVEL:
		if (g->level == (enum grant_level)m->body.level->level)
			return false;
		g->level = (enum grant_level)m->body.level->level;
		snprintf(g->text, sizeof(g->text), "memory is %.2000s",
			 m->body.level->text ? m->body.level->text : "at another level");
		return true;
	default:
		return false;
	}
}

bool grant_turn(struct grant *g, uint64_t now, const char **ret_text)
{
	struct box_msg m;
	struct err e;
	bool tell = false;
	int r;

	*ret_text = g->text;
	if (g->fd < 0) {
		if (now < g->again_ns)
			return false;
		g->again_ns = now + AGAIN_NS;
		r = present(g);
		return r < 0 ? lose(g, now, strerror(-r)) : false;
	}
	while (!tell) {
		r = box_recv(g->fd, BOX_FROM_DAEMON, &m, &e);
		if (r == -EAGAIN)
			return false;
		if (r < 0)
			return lose(g, now, e.text);
		tell = take_word(g, &m);
		box_msg_done(&m);
	}
	return true;
}
