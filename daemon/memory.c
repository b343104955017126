/* memory.c - see memory.h: opened, closed, configured anew; the watchdog's clock. */
#include "daemon/memory.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "daemon/memory_int.h"
#include "daemon/nvml.h"
#include "lib/bytes.h"
#include "lib/clock.h"
#include "lib/log.h"

enum { SLOW_MS = 1000, REFRESH_TURNS = 10 };

void memory_soon(struct memory *m)
{
	event_active(m->turn, EV_TIMEOUT, 0);
}

static void on_watch(evutil_socket_t fd, short what, void *arg)
{
	struct memory *m = arg;
	const uint64_t now = clock_ns();

	m->counts.looks++;
	if (m->counts.looked_ns && now - m->counts.looked_ns > m->counts.gap_ns)
		m->counts.gap_ns = now - m->counts.looked_ns;
	m->counts.looked_ns = now;
	memory_measure(m);
	memory_on_turn(fd, what, m);
}

static void on_slow(evutil_socket_t fd, short what, void *arg)
{
	struct memory *m = arg;

	(void)fd, (void)what;
	memory_read_gpus(m);
	workloads_release(m->workloads, memory_alias_needed, m);
	if (m->slow_turns++ % REFRESH_TURNS == 0)
		workloads_refresh(m->workloads);
}

/* MCL_ONFAULT: what is touched stays, without claiming what never will be. */
static void lock_memory(struct memory *m)
{
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		checks_add(&m->checks,
			   "hearthd's own memory cannot be locked (%s): the watchdog may "
			   "be late when memory is short; LimitMEMLOCK= or CAP_IPC_LOCK",
			   strerror(errno));
}

static struct timeval of_ms(uint32_t ms)
{
	return (struct timeval){ .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };
}

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
	const struct workload_hooks wh = { .stopping = memory_on_stopping,
					   .stopped = memory_on_stopped,
					   .none = memory_on_none, .arg = m };
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
	m->turn = event_new(m->base, -1, 0, memory_on_turn, m);
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
	memory_read_gpus(m);
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

uint64_t memory_known(const struct memory *m, const char *alias)
{
	for (size_t i = 0; i < m->n_known; i++)
		if (!strcmp(m->known[i].alias, alias))
			return m->known[i].need;
	return 0;
}

void memory_forget(struct memory *m, const char *alias)
{
	for (size_t i = 0; i < m->n_known; i++)
		if (!strcmp(m->known[i].alias, alias))
			m->known[i] = m->known[--m->n_known];
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
	snprintf(why, n_why,
		 "needs %s, %s more than there is: MemAvailable %s, reserve %s, owed to "
		 "other workers %s",
		 BYTES(need), BYTES(*ret_short), BYTES(m->info.available),
		 BYTES(broker_policy_of(m->broker)->reserve), BYTES(broker_owed(m->broker, -1)));
	return false;
}
