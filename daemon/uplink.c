/* uplink.c - see uplink.h.
 *
 * The link's descriptor is edge-triggered: it is read until -EAGAIN after each wake, after each
 * send (through `drain`, in the same turn of the loop) and on every tick.
 */
#include "daemon/uplink.h"

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "config.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/own.h"

enum { TICK_MS = 100, BEAT_MS = 1000, DEAD_MS = 3000, MIN_BEAT_MS = 50, BURST = 256,
       CALM_S = 10, MAX_PAUSE_MS = 4000 };

struct uplink {
	struct event_base *base;
	struct link_client *link;
	struct event *readable, *drain, *tick;
	struct uplink_hooks hooks;
	char *box, *endpoint;
	uint64_t boot, heard_ns, beat_ns;
	uint64_t up_ns, hello_ns;	/* welcomed; no hello before */
	uint32_t beat_ms, dead_ms, pause_ms;
	bool connected, up, failed, hello_due;
};

bool uplink_is_up(const struct uplink *u)
{
	return u->up;
}

static void send_message(struct uplink *u, enum wire_type t, const ProtobufCMessage *m)
{
	int r = link_client_send(u->link, t, m);

	event_active(u->drain, EV_READ, 0);
	if (r == -EMSGSIZE)
		log_error("router: a %s is too large to be sent", wire_type_name(t));
	else if (r < 0)
		u->failed = true;
}

static void send_hello(struct uplink *u)
{
	Hw__Hello m = HW__HELLO__INIT;

	m.has_kind = 1;
	m.kind = HW__PEER_KIND__BOX;
	m.worker = u->box;
	m.boot = u->boot;
	m.model = m.numeric_class = "-";
	m.version = PACKAGE_VERSION;
	send_message(u, WIRE_HELLO, &m.base);
}

void uplink_report(struct uplink *u, const Hw__BoxReport *r)
{
	if (u->up)
		send_message(u, WIRE_BOX_REPORT, &r->base);
}

void uplink_reply(struct uplink *u, uint64_t request, bool ok, const char *message)
{
	Hw__BoxReply m = HW__BOX_REPLY__INIT;

	if (!request || !u->up)
		return;
	m.request = request;
	m.ok = ok;
	m.message = (char *)(uintptr_t)message;
	send_message(u, WIRE_BOX_REPLY, &m.base);
}

static void lose(struct uplink *u, const char *why)
{
	bool was_up = u->up;

	if (u->connected)
		log_warn("router at %s lost (%s), connecting anew", u->endpoint, why);
	u->connected = u->up = u->failed = false;
	if (was_up)
		u->hooks.up(u->hooks.arg, false);
}

static void on_welcome(struct uplink *u, const Hw__Welcome *w)
{
	u->beat_ms = w->beat_ms > MIN_BEAT_MS ? w->beat_ms : MIN_BEAT_MS;
	u->dead_ms = w->dead_ms > 2 * u->beat_ms ? w->dead_ms : 2 * u->beat_ms;
	u->beat_ns = 0;
	u->up = true;
	u->up_ns = clock_ns();
	log_note("connected to the router at %s as box %s", u->endpoint, u->box);
	u->hooks.up(u->hooks.arg, true);
}

/* Sent away soon after it was welcomed, as when two boxes have one name and each displaces the other:
 * they would do so hundreds of times a second. */
static void put_off(struct uplink *u)
{
	const uint64_t now = clock_ns();

	if (now - u->up_ns > CALM_S * NS_PER_S)
		u->pause_ms = 0;
	u->pause_ms = u->pause_ms ? 2 * u->pause_ms : TICK_MS;
	if (u->pause_ms > MAX_PAUSE_MS)
		u->pause_ms = MAX_PAUSE_MS;
	u->hello_ns = now + u->pause_ms * NS_PER_MS;
}

static void say_hello(struct uplink *u)
{
	u->hello_due = u->connected && clock_ns() < u->hello_ns;
	if (!u->connected || u->hello_due)
		return;
	u->heard_ns = clock_ns();
	send_hello(u);
}

static void on_message(struct uplink *u, const struct wire_msg *m)
{
	u->heard_ns = clock_ns();
	switch (m->type) {
	case WIRE_WELCOME:
		on_welcome(u, m->body.welcome);
		break;
	case WIRE_BOX_COMMAND:
		u->hooks.command(u->hooks.arg, m->body.box_command);
		break;
	case WIRE_BOX_USE:
		u->hooks.use(u->hooks.arg, m->body.box_use);
		break;
	case WIRE_GOODBYE:
		lose(u, m->body.goodbye->reason);
		put_off(u);
		(void)link_client_renew(u->link);
		break;
	default:
		break;		/* a beat: it was heard */
	}
}

static void take_one(struct uplink *u, struct link_in *in)
{
	if (in->event == LINK_NEW) {
		u->connected = true;
		say_hello(u);
	} else if (in->event == LINK_GONE) {
		lose(u, in->why);
	} else {
		on_message(u, &in->msg);
	}
	wire_msg_done(&in->msg);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct uplink *u = arg;
	struct link_in in;

	(void)fd, (void)what;
	for (int i = 0; i < BURST; i++) {
		memset(&in, 0, sizeof(in));
		if (link_client_recv(u->link, &in) < 0)
			return;
		take_one(u, &in);
	}
	event_active(u->drain, EV_READ, 0);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct uplink *u = arg;
	uint64_t now;

	on_readable(fd, what, arg);
	if (u->hello_due)
		say_hello(u);
	now = clock_ns();
	if (u->connected && !u->hello_due && now - u->heard_ns > u->dead_ms * NS_PER_MS) {
		lose(u, "silent for too long");
		(void)link_client_renew(u->link);
	} else if (u->failed) {
		lose(u, "a message could not be sent");
		(void)link_client_renew(u->link);
	}
	if (u->up && now >= u->beat_ns) {
		u->beat_ns = now + u->beat_ms * NS_PER_MS;
		u->hooks.beat(u->hooks.arg);
	}
}

static void uplink_closep(struct uplink **u)
{
	uplink_close(*u);
}

int uplink_open(struct event_base *base, const char *endpoint, const struct link_curve *curve,
		const char *box, const struct uplink_hooks *h, struct uplink **ret, struct err *e)
{
	CLEANUP(uplink_closep) struct uplink *u = calloc(1, sizeof(*u));
	struct timeval tv = { .tv_usec = TICK_MS * 1000 };
	int r;

	if (!u)
		return err_set(e, -ENOMEM, "out of memory");
	*u = (struct uplink){ .base = base, .hooks = *h, .beat_ms = BEAT_MS, .dead_ms = DEAD_MS,
			      .box = strdup(box), .endpoint = strdup(endpoint) };
	if (!u->box || !u->endpoint)
		return err_set(e, -ENOMEM, "out of memory");
	if (getrandom(&u->boot, sizeof(u->boot), 0) != sizeof(u->boot))
		return err_set(e, -EIO, "no random numbers");
	r = link_client_open(endpoint, curve, &u->link, e);
	if (r < 0)
		return r;
	u->readable =
		event_new(base, link_client_fd(u->link), EV_READ | EV_PERSIST, on_readable, u);
	u->drain = event_new(base, -1, 0, on_readable, u);
	u->tick = event_new(base, -1, EV_PERSIST, on_tick, u);
	if (!u->readable || !u->drain || !u->tick)
		return err_set(e, -ENOMEM, "out of memory");
	event_add(u->readable, NULL);
	event_add(u->tick, &tv);
	*ret = TAKE(u);
	return 0;
}

struct uplink *uplink_close(struct uplink *u)
{
	Hw__Goodbye bye = HW__GOODBYE__INIT;

	if (!u)
		return NULL;
	bye.reason = "hearthd stops";
	if (u->up)
		(void)link_client_send(u->link, WIRE_GOODBYE, &bye.base);
	if (u->readable)
		event_free(u->readable);
	if (u->drain)
		event_free(u->drain);
	if (u->tick)
		event_free(u->tick);
	link_client_close(u->link);
	free(u->box);
	free(u->endpoint);
	free(u);
	return NULL;
}
