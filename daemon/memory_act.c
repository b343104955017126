/* memory_act.c - doing what the broker says, one action at a time. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>

#include "daemon/memory_int.h"
#include "lib/bytes.h"
#include "lib/clock.h"
#include "lib/events.h"
#include "lib/log.h"

enum { MAX_FOLDERS = 300 };

static void on_dropped(void *arg, bool helped, const char *text)
{
	struct memory *m = arg;
	uint64_t id = m->dropping;
	const struct broker_claim *c = broker_find(m->broker, id);

	log_event(helped ? LOG_NOTE : LOG_WARN, EVENT_CACHES_DROPPED,
		  LOG_FIELDS({ "ALIAS", c ? c->alias : NULL }), "drop: %s", text);
	m->dropping = 0;
	m->counts.drops += helped;
	m->counts.drops_failed += !helped;
	memory_measure(m);
	broker_dropped(m->broker, id, helped);
	memory_soon(m);
}

/* Files of a worker that serves are in nobody's way: a CPU worker reads them through its mapping
 * until it has its own copy, which fadvise leaves alone. */
static void drop(struct memory *m, const struct broker_action *a)
{
	const char *folder[MAX_FOLDERS];
	struct memory_alias row;
	size_t n = 0;
	int r;

	for (struct visitor *v = desk_first(m->desk); v && n < MAX_FOLDERS; v = v->next)
		if (v->model)
			folder[n++] = v->model;
	for (size_t i = 0; n < MAX_FOLDERS && m->hooks.alias(m->hooks.arg, i, &row); i++)
		if (row.folder)
			folder[n++] = row.folder;
	memory_tell_waiting(m, a->claim.id, "page cache is dropped");
	m->dropping = a->claim.id;
	log_note("%s needs %s, %s more than is free now: dropping caches first", a->claim.alias,
		 BYTES(a->claim.host + a->claim.device), BYTES(a->short_by));
	r = drop_start(m->drop, folder, n, on_dropped, m);
	if (r == 0 || r == -EBUSY)	/* one begun for a worker that left serves as well */
		return;
	m->dropping = 0;
	m->counts.drops_failed++;
	broker_dropped(m->broker, a->claim.id, false);
	memory_soon(m);
}

static void look(struct memory *m, const struct broker_action *a)
{
	struct broker_holder h[MEMORY_HOLDERS];
	size_t n = memory_holders(m, h, MEMORY_HOLDERS);

	broker_holders(m->broker, a->claim.id, h, n);
}

static void refuse(struct memory *m, const struct broker_action *a)
{
	struct broker_holder h[MEMORY_HOLDERS];
	size_t n = memory_holders(m, h, MEMORY_HOLDERS);
	char bytes[24];

	snprintf(bytes, sizeof(bytes), "%" PRIu64, a->claim.host + a->claim.device);
	log_event(LOG_WARN, EVENT_MEMORY_REFUSED,
		  LOG_FIELDS({ "ALIAS", a->claim.alias }, { "BYTES", bytes }), "refused: %s",
		  a->text);
	m->counts.refused++;
	memory_tell_refused(m, a, h, n);
}

/* A worker that got SIGTERM and ten seconds, and still is there, gets no second one. */
static void stop_youngest(struct memory *m, const struct broker_action *a)
{
	struct visitor *v = desk_find(m->desk, a->claim.id);
	bool again = m->ending == a->claim.id;

	log_event(LOG_ERROR, EVENT_MEMORY_SHED, LOG_FIELDS({ "ALIAS", a->claim.alias }), "%s",
		  a->text);
	m->ending = a->claim.id;
	m->counts.stopped += !again;
	if (!again && m->hooks.stop(m->hooks.arg, a->claim.alias, a->claim.pid, a->text))
		return;
	if (v)
		(void)desk_signal(v, again ? SIGKILL : SIGTERM);
}

static void grant(struct memory *m, const struct broker_action *a)
{
	char bytes[24];

	snprintf(bytes, sizeof(bytes), "%" PRIu64, a->claim.host + a->claim.device);
	log_event(LOG_NOTE, EVENT_MEMORY_GRANTED,
		  LOG_FIELDS({ "ALIAS", a->claim.alias }, { "BYTES", bytes }), "%s", a->text);
	m->counts.granted++;
	memory_tell_granted(m, a);
}

static void enter(struct memory *m, const struct broker_action *a)
{
	static const struct {
		const char *name;
		enum log_level level;
	} levels[] = { { "green", LOG_NOTE }, { "yellow", LOG_WARN }, { "red", LOG_ERROR } };

	log_event(levels[a->level].level, EVENT_MEMORY_LEVEL,
		  LOG_FIELDS({ "LEVEL", levels[a->level].name }), "memory is %s", a->text);
	m->counts.levels[a->level]++;
	memory_tell_level(m, a->level, a->text);
}

static void act(struct memory *m, const struct broker_action *a)
{
	switch (a->what) {
	case BROKER_DROP:
		drop(m, a);
		break;
	case BROKER_MAKE_ROOM:
		workloads_make_room(m->workloads, a->claim.alias);
		break;
	case BROKER_LOOK:
		look(m, a);
		break;
	case BROKER_WAIT:
		log_note("%s", a->text);
		memory_tell_waiting(m, a->claim.id, a->text);
		break;
	case BROKER_GRANT:
		grant(m, a);
		break;
	case BROKER_REFUSE:
		refuse(m, a);
		break;
	case BROKER_LEVEL:
		enter(m, a);
		break;
	case BROKER_STOP_YOUNGEST:
		stop_youngest(m, a);
		break;
	}
}

void memory_on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct memory *m = arg;
	struct broker_action a;

	(void)fd, (void)what;
	while (broker_next(m->broker, clock_ns(), &a))
		act(m, &a);
}
