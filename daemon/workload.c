/* workload.c - see workload.h. */
#include "config.h"

#include "daemon/workload.h"

#include <event2/event.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_SYSTEMD
#include <systemd/sd-bus.h>
#endif

#include "daemon/workload_int.h"
#include "lib/events.h"
#include "lib/log.h"
#include "lib/own.h"

enum { STOP_S = 120, REOPEN_S = 5 };

/* ---- what was stopped, across a restart of ours -------------------------------------------- */

static void state_path(const struct workloads *w, const char *tail, char *ret, size_t n)
{
	snprintf(ret, n, "%s/workloads%s", w->conf->state_dir, tail);
}

static void save(const struct workloads *w)
{
	char path[256], temp[256];
	CLEANUP(fclosep) FILE *f = NULL;

	state_path(w, "", path, sizeof(path));
	state_path(w, ".new", temp, sizeof(temp));
	f = fopen(temp, "we");
	if (!f) {
		log_warn("%s: %s; a later hearthd will not know what was stopped", temp,
			 strerror(errno));
		return;
	}
	for (size_t i = 0; i < w->n; i++)
		if (w->at[i].w.state == WORKLOAD_STOPPING || w->at[i].w.state == WORKLOAD_STOPPED)
			fprintf(f, "%s %s\n", w->at[i].w.conf->name, w->at[i].w.for_alias);
	if (fflush(f) != 0 || rename(temp, path) < 0)
		log_warn("%s: %s; a later hearthd will not know what was stopped", path,
			 strerror(errno));
}

static struct entry *find(struct workloads *w, const char *name)
{
	for (size_t i = 0; i < w->n; i++)
		if (!strcmp(w->at[i].w.conf->name, name))
			return &w->at[i];
	return NULL;
}

static void load(struct workloads *w)
{
	char path[256], line[512], name[64], alias[BROKER_NAME];
	CLEANUP(fclosep) FILE *f = NULL;

	state_path(w, "", path, sizeof(path));
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		struct entry *en;

		if (sscanf(line, "%63s %127s", name, alias) != 2)
			continue;
		en = find(w, name);
		if (!en)
			continue;
		en->w.state = WORKLOAD_STOPPED;
		snprintf(en->w.for_alias, sizeof(en->w.for_alias), "%s", alias);
		log_note("workload %s: was stopped for %s by an earlier hearthd", name, alias);
	}
}

static void tell(const struct entry *en, bool good, const char *what, const char *of)
{
	log_event(good ? LOG_NOTE : LOG_WARN, EVENT_WORKLOAD_CHANGED,
		  LOG_FIELDS({ "WORKLOAD", en->w.conf->name }, { "UNIT", en->w.conf->unit },
			     { "WHAT", what }), "workload %s: %s %s%s%s", en->w.conf->name,
		  en->w.conf->unit, what, *of ? " " : "", of);
}

/* ---- what systemd said --------------------------------------------------------------- */

void workload_set(struct workloads *w, struct entry *en, enum workload_state s)
{
	en->w.state = s;
	save(w);
}

static void asked_over(struct workloads *w)
{
	event_del(w->late);
	w->asked = NULL;
	*w->alias = '\0';
}

/* The next one that could make room, or nobody. */
void workload_next(struct workloads *w)
{
	while (w->next < w->n) {
		struct entry *en = &w->at[w->next++];

		if (en->w.state != WORKLOAD_RUNNING || !workload_conf_for(en->w.conf, w->alias))
			continue;
		w->asked = en;
		if (workload_query(w, en) == 0)
			return;
	}
	asked_over(w);
	w->hooks.none(w->hooks.arg);
}

void workload_is(struct workloads *w, struct entry *en, bool active, const char *why)
{
	en->w.known = true;
	en->w.active = active;
	if (w->asked != en || en->w.state != WORKLOAD_RUNNING)
		return;
	if (!active) {
		log_debug("workload %s: %s is not active (%s)", en->w.conf->name, en->w.conf->unit,
			  why);
		workload_next(w);
		return;
	}
	snprintf(en->w.for_alias, sizeof(en->w.for_alias), "%s", w->alias);
	workload_set(w, en, WORKLOAD_STOPPING);
	tell(en, true, "is being stopped to make room for", w->alias);
	w->hooks.stopping(w->hooks.arg, &en->w);
	if (workload_call(w, en, "StopUnit") < 0)
		workload_job_over(w, en, "not-sent");
}

void workload_job_over(struct workloads *w, struct entry *en, const char *result)
{
	bool done = !strcmp(result, "done"), was_asked = w->asked == en;

	en->w.known = true;
	if (en->w.state == WORKLOAD_STARTING) {
		en->w.active = done;
		workload_set(w, en, WORKLOAD_RUNNING);
		tell(en, done, done ? "runs again" : "could not be started:", done ? "" : result);
		return;
	}
	if (en->w.state != WORKLOAD_STOPPING)
		return;
	en->w.active = !done;
	workload_set(w, en, done ? WORKLOAD_STOPPED : WORKLOAD_RUNNING);
	tell(en, done, done ? "is stopped" : "could not be stopped:", done ? "" : result);
	if (!was_asked)
		return;
	asked_over(w);
	/* a stop that failed may have helped all the same: it is measured */
	w->hooks.stopped(w->hooks.arg, &en->w);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
	struct workloads *w = arg;
	struct entry *en = w->asked;

	(void)fd, (void)what;
	if (!en)
		return;
	log_warn("workload %s: systemd has not answered for %d s", en->w.conf->name, STOP_S);
	if (en->w.state == WORKLOAD_STOPPING)
		workload_job_over(w, en, "timeout");
	else
		workload_next(w);
}

/* ---- the door ------------------------------------------------------------------------ */

static int take_conf(struct workloads *w, const struct memory_conf *conf)
{
	struct entry *at = calloc(conf->n_workloads ? conf->n_workloads : 1, sizeof(*at));

	if (!at)
		return -ENOMEM;
	for (size_t i = 0; i < conf->n_workloads; i++)
		at[i] = (struct entry){ .owner = w, .w.conf = &conf->workloads[i] };
	for (size_t i = 0; i < w->n; i++)
		workload_forget(&w->at[i]);
	free(w->at);
	w->at = at;
	w->n = conf->n_workloads;
	w->conf = conf;
	load(w);
	return 0;
}

int workloads_new(struct event_base *base, const struct memory_conf *conf,
		  const struct workload_hooks *h, struct workloads **ret)
{
	struct workloads *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->base = base;
	w->hooks = *h;
	w->late = event_new(base, -1, 0, on_late, w);
	if (!w->late || take_conf(w, conf) < 0) {
		workloads_free(w);
		return -ENOMEM;
	}
	*ret = w;
	return 0;
}

struct workloads *workloads_free(struct workloads *w)
{
	if (!w)
		return NULL;
	for (size_t i = 0; i < w->n; i++)
		workload_forget(&w->at[i]);
	workload_bus_close(w);
	if (w->late)
		event_free(w->late);
	free(w->at);
	free(w);
	return NULL;
}

void workloads_reload(struct workloads *w, const struct memory_conf *conf)
{
	bool pending = w->asked || *w->alias;

	if (take_conf(w, conf) < 0) {
		log_error("reload: out of memory; workloads stay as they were");
		return;
	}
	asked_over(w);
	if (pending)
		w->hooks.none(w->hooks.arg);
	workloads_refresh(w);
}

void workloads_make_room(struct workloads *w, const char *alias)
{
	const struct timeval late = { .tv_sec = STOP_S };

	snprintf(w->alias, sizeof(w->alias), "%s", alias);
	w->next = 0;
	event_add(w->late, &late);
	workload_next(w);
}

void workloads_release(struct workloads *w, bool (*needs)(void *arg, const char *alias),
		       void *arg)
{
	for (size_t i = 0; i < w->n; i++) {
		struct entry *en = &w->at[i];

		if (en->w.state != WORKLOAD_STOPPED || !en->w.conf->restart ||
		    needs(arg, en->w.for_alias))
			continue;
		tell(en, true, "is started again without", en->w.for_alias);
		en->w.state = WORKLOAD_STARTING;
		if (workload_call(w, en, "StartUnit") < 0)
			en->w.state = WORKLOAD_STOPPED;	/* tried again */
		else
			save(w);
	}
}

uint64_t workloads_stoppable(const struct workloads *w, const char *alias)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < w->n; i++)
		if (w->at[i].w.state == WORKLOAD_RUNNING && w->at[i].w.active &&
		    workload_conf_for(w->at[i].w.conf, alias))
			sum += w->at[i].w.conf->memory;
	return sum;
}

void workloads_refresh(struct workloads *w)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->at[i].w.state == WORKLOAD_RUNNING && w->asked != &w->at[i])
			(void)workload_query(w, &w->at[i]);
}

const struct workload *workloads_at(const struct workloads *w, size_t i)
{
	return i < w->n ? &w->at[i].w : NULL;
}
