/* memory.c - see memory.h: measuring, and doing what the broker says. */
#include "daemon/memory.h"

#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/holders.h"
#include "daemon/memory_int.h"
#include "daemon/nvml.h"
#include "lib/bytes.h"
#include "lib/clock.h"
#include "lib/events.h"
#include "lib/log.h"
#include "lib/own.h"

enum { SLOW_MS = 1000, MAX_FOLDERS = 300, REFRESH_TURNS = 10, PRESENT_TURNS = 10 };

#define LEAST_HOLDER (128 * BYTES_MIB)

void memory_soon(struct memory *m)
{
	event_active(m->turn, EV_TIMEOUT, 0);
}

/* ---- measuring ---------------------------------------------------------------------------- */

/* Pressure over the last second: the kernel's own averages are of ten and more. */
static void read_pressure(struct memory *m, uint64_t now)
{
	struct meminfo_psi p;

	m->psi_known = meminfo_psi_read(NULL, &p) == 0;
	if (!m->psi_known || now - m->psi_ns < NS_PER_S)
		return;
	if (m->psi_ns && p.full_us >= m->psi_us)
		m->psi = (uint32_t)((p.full_us - m->psi_us) * 100000 / (now - m->psi_ns));
	m->psi_ns = now;
	m->psi_us = p.full_us;
}

/* Workers on the CPU take their memory as they touch it: what they have is measured. */
static void read_taken(struct memory *m)
{
	for (struct visitor *v = desk_first(m->desk); v; v = v->next) {
		const struct broker_claim *c = v->leased ? broker_find(m->broker, v->id) : NULL;
		uint64_t bytes;

		if (c && c->measured && holders_taken(NULL, v->pid, &bytes) == 0)
			broker_taken(m->broker, v->id, bytes, 0);
	}
}

static void read_gpus(struct memory *m)
{
	for (unsigned i = 0; i < nvml_count(m->nvml) && i < BROKER_MAX_GPUS; i++) {
		struct nvml_gpu g;

		if (nvml_read(m->nvml, i, &g) < 0 || !g.own_memory)
			continue;
		m->gpus_own[i] = true;
		m->measure.gpu_total[i] = g.total;
		m->measure.gpu_free[i] = g.free;
	}
}

void memory_measure(struct memory *m)
{
	uint64_t now = clock_ns(), percpu;
	struct err e;

	if (meminfo_read(NULL, &m->info, &e) < 0) {
		log_error("%s", e.text);
		return;
	}
	read_pressure(m, now);
	read_taken(m);
	m->measure.total = m->info.total;
	m->measure.free = m->info.free;
	/* memory that a process just gave back is available, wherever the kernel keeps it; a device
	 * that sees MemFree only gets it as it gets the cache, by hearth-dropcaches */
	percpu = meminfo_percpu(NULL);
	m->measure.available = m->info.available + percpu;
	m->measure.droppable = meminfo_droppable(&m->info) + percpu;
	m->measure.psi = m->psi;
	broker_measure(m->broker, &m->measure, now);
}

size_t memory_holders(struct memory *m, struct broker_holder *ret, size_t n)
{
	int ours[BROKER_MAX_CLAIMS + 1];
	size_t n_ours = 0;

	ours[n_ours++] = (int)getpid();
	for (size_t i = 0; broker_at(m->broker, i); i++)
		if (broker_at(m->broker, i)->state == CLAIM_LEASED)
			ours[n_ours++] = broker_at(m->broker, i)->pid;
	return holders_read(NULL, m->nvml, ours, n_ours, LEAST_HOLDER, ret, n);
}

uint64_t memory_known(const struct memory *m, const char *alias)
{
	for (size_t i = 0; i < m->n_known; i++)
		if (!strcmp(m->known[i].alias, alias))
			return m->known[i].need;
	return 0;
}

/* ---- doing what the broker says --------------------------------------------------------------- */

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
	if (r == 0 || r == -EBUSY)	/* one that was begun for a worker that left serves as well */
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

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct memory *m = arg;
	struct broker_action a;

	(void)fd, (void)what;
	while (broker_next(m->broker, clock_ns(), &a))
		act(m, &a);
}

/* ---- workloads ------------------------------------------------------------------------------------ */

static const struct broker_claim *judged(const struct memory *m)
{
	for (size_t i = 0; broker_at(m->broker, i); i++)
		if (broker_at(m->broker, i)->state == CLAIM_JUDGED)
			return broker_at(m->broker, i);
	return NULL;
}

static void on_stopping(void *arg, const struct workload *w)
{
	struct memory *m = arg;
	const struct broker_claim *c = judged(m);
	char text[256];

	if (!c)
		return;
	snprintf(text, sizeof(text), "workload %.60s (%.120s) is stopped to make room",
		 w->conf->name, w->conf->unit);
	broker_stopping(m->broker, c->id, clock_ns());
	memory_tell_waiting(m, c->id, text);
}

static void on_stopped(void *arg, const struct workload *w)
{
	struct memory *m = arg;
	const struct broker_claim *c = judged(m);

	(void)w;
	memory_measure(m);
	if (c)
		broker_stopped(m->broker, c->id, clock_ns());
	memory_soon(m);
}

static void on_none(void *arg)
{
	struct memory *m = arg;
	const struct broker_claim *c = judged(m);

	if (c)
		broker_no_room(m->broker, c->id);
	memory_soon(m);
}

static bool alias_needs(void *arg, const char *alias)
{
	struct memory *m = arg;
	struct memory_alias row;

	for (size_t i = 0; broker_at(m->broker, i); i++)
		if (!strcmp(broker_at(m->broker, i)->alias, alias))
			return true;
	/* In the first moments, leases of an earlier hearthd are still being presented; of an alias
	 * whose lease was, and is no more, all is known. */
	if (m->slow_turns <= PRESENT_TURNS && !memory_known(m, alias))
		return true;
	/* between two attempts of a worker that is wanted */
	for (size_t i = 0; m->hooks.alias(m->hooks.arg, i, &row); i++)
		if (!strcmp(row.alias, alias))
			return strcmp(row.state, "unloaded") != 0 &&
			       strcmp(row.state, "quarantined") != 0;
	return false;
}

/* ---- the watchdog ----------------------------------------------------------------------------------- */

static void on_watch(evutil_socket_t fd, short what, void *arg)
{
	struct memory *m = arg;
	const uint64_t now = clock_ns();

	m->counts.looks++;
	if (m->counts.looked_ns && now - m->counts.looked_ns > m->counts.gap_ns)
		m->counts.gap_ns = now - m->counts.looked_ns;
	m->counts.looked_ns = now;
	memory_measure(m);
	on_turn(fd, what, m);
}

static void on_slow(evutil_socket_t fd, short what, void *arg)
{
	struct memory *m = arg;

	(void)fd, (void)what;
	read_gpus(m);
	workloads_release(m->workloads, alias_needs, m);
	if (m->slow_turns++ % REFRESH_TURNS == 0)
		workloads_refresh(m->workloads);
}

/* MCL_ONFAULT: what is touched stays, without claiming what never will be. */
static void lock_memory(struct memory *m)
{
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		checks_add(&m->checks, "hearthd's own memory cannot be locked (%s): the watchdog may "
			   "be late when memory is short; LimitMEMLOCK= or CAP_IPC_LOCK",
			   strerror(errno));
}

static struct timeval of_ms(uint32_t ms)
{
	return (struct timeval){ .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
}

/* ---- the door ------------------------------------------------------------------------------------------ */

static void log_start(const struct memory *m)
{
	const struct broker_policy *p = broker_policy_of(m->broker);
	const struct broker_measure *b = broker_measured(m->broker);
	static const char *const drops[] = { "auto", "always", "never" };

	log_note("memory: total %s, MemFree %s, MemAvailable %s, droppable cache %s; reserve %s (%"
		 PRIu64 " bytes), yellow below %s, red below %s, drop_caches = %s",
		 BYTES(b->total), BYTES(b->free), BYTES(b->available), BYTES(b->droppable),
		 BYTES(p->reserve), p->reserve, BYTES(p->yellow), BYTES(p->red), drops[p->drop]);
	for (size_t i = 0; i < m->checks.n; i++)
		log_note("box: %s", m->checks.text[i]);
}

static int open_parts(struct memory *m, struct err *e)
{
	const struct desk_hooks dh = { .present = memory_on_present, .taken = memory_on_taken,
				       .ask = memory_on_ask, .gone = memory_on_gone, .arg = m };
	const struct workload_hooks wh = { .stopping = on_stopping, .stopped = on_stopped,
					   .none = on_none, .arg = m };
	struct broker_policy p;
	int r = meminfo_read(NULL, &m->info, e);

	if (r < 0)
		return r;
	p = memory_conf_policy(m->conf, m->info.total);
	/* ids of a later hearthd begin later, so that a lease names its worker for ever */
	if (broker_new(&p, (uint64_t)clock_wall_s() << 20, &m->broker) < 0 ||
	    drop_new(m->base, m->conf->drop_socket, &m->drop) < 0 ||
	    workloads_new(m->base, m->conf, &wh, &m->workloads) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	m->watch = event_new(m->base, -1, EV_PERSIST, on_watch, m);
	m->slow = event_new(m->base, -1, EV_PERSIST, on_slow, m);
	m->turn = event_new(m->base, -1, 0, on_turn, m);
	if (!m->watch || !m->slow || !m->turn)
		return err_set(e, -ENOMEM, "out of memory");
	return desk_open(m->base, m->conf->socket, &dh, &m->desk, e);
}

int memory_open(struct event_base *base, struct memory_conf *conf, const struct memory_hooks *h,
		struct memory **ret, struct err *e)
{
	struct memory *m = calloc(1, sizeof(*m));
	struct timeval slow = of_ms(SLOW_MS), watch = of_ms(conf->watch_ms);
	int r;

	if (!m)
		return err_set(e, -ENOMEM, "out of memory");
	m->base = base;
	m->conf = conf;
	m->hooks = *h;
	m->nvml = nvml_open();
	checks_read(NULL, m->nvml, &m->checks);
	r = open_parts(m, e);
	if (r < 0) {
		m->conf = NULL;		/* stays the caller's */
		memory_close(m);
		return r;
	}
	lock_memory(m);
	read_gpus(m);
	memory_measure(m);
	log_start(m);
	event_add(m->watch, &watch);
	event_add(m->slow, &slow);
	workloads_refresh(m->workloads);
	*ret = m;
	return 0;
}

struct memory *memory_close(struct memory *m)
{
	if (!m)
		return NULL;
	desk_close(m->desk);
	drop_free(m->drop);
	workloads_free(m->workloads);
	if (m->watch)
		event_free(m->watch);
	if (m->slow)
		event_free(m->slow);
	if (m->turn)
		event_free(m->turn);
	broker_free(m->broker);
	nvml_close(m->nvml);
	memory_conf_free(m->conf);
	free(m);
	return NULL;
}

void memory_reload(struct memory *m, struct memory_conf *conf)
{
	struct memory_conf *was = m->conf;
	struct broker_policy p = memory_conf_policy(conf, m->info.total);
	struct timeval watch = of_ms(conf->watch_ms);

	m->conf = conf;
	broker_policy(m->broker, &p);
	workloads_reload(m->workloads, conf);
	memory_conf_free(was);
	event_add(m->watch, &watch);
	memory_soon(m);
}

static int pool_of_alias(const struct memory *m, const char *alias)
{
	struct memory_alias row;
	bool measured;
	int pool;

	for (size_t i = 0; m->hooks.alias(m->hooks.arg, i, &row); i++)
		if (!strcmp(row.alias, alias))
			return row.device && memory_pool(m, row.device, &pool, &measured) == 0 ?
				       pool : -1;
	return -1;
}

bool memory_would_fit(const struct memory *m, const char *alias, uint64_t need,
		      uint64_t *ret_short, char *why, size_t n_why)
{
	uint64_t stoppable = workloads_stoppable(m->workloads, alias);
	uint64_t known = memory_known(m, alias);
	int gpu = pool_of_alias(m, alias);

	/* what it presented itself is better than any estimate */
	if (known)
		need = known;
	if (gpu >= 0) {
		uint64_t have = broker_usable(m->broker, gpu);

		*ret_short = need > have ? need - have : 0;
		if (*ret_short)
			snprintf(why, n_why, "needs %s, %s more than GPU %d has", BYTES(need),
				 BYTES(*ret_short), gpu);
		return !*ret_short;
	}
	if (broker_would_fit(m->broker, need, stoppable, ret_short))
		return true;
	snprintf(why, n_why, "needs %s, %s more than there is: MemAvailable %s, reserve %s, owed to "
		 "other workers %s", BYTES(need), BYTES(*ret_short), BYTES(m->info.available),
		 BYTES(broker_policy_of(m->broker)->reserve), BYTES(broker_owed(m->broker, -1)));
	return false;
}
