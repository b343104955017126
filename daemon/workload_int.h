/* workload_int.h - between the states of workloads (workload.c) and systemd (workload_bus.c). */
#ifndef HEARTH_DAEMON_WORKLOAD_INT_H
#define HEARTH_DAEMON_WORKLOAD_INT_H

#include "daemon/workload.h"

struct event;
struct sd_bus;
struct sd_bus_slot;

struct entry {
	struct workload w;
	struct workloads *owner;
	struct sd_bus_slot *query, *call;	/* under way */
	char job[128];				/* object path; "" none */
};

struct workloads {
	struct event_base *base;
	const struct memory_conf *conf;
	struct workload_hooks hooks;
	struct entry *at;
	size_t n;
	/* the question at hand */
	char alias[BROKER_NAME];
	struct entry *asked;
	size_t next;
	struct event *late;
	/* workload_bus.c */
	struct sd_bus *bus;
	struct event *io, *timer;
	uint64_t tried_ns;
};

/* workload.c: what systemd said. */
void workload_next(struct workloads *w);
void workload_is(struct workloads *w, struct entry *en, bool active, const char *why);
void workload_job_over(struct workloads *w, struct entry *en, const char *result);
void workload_set(struct workloads *w, struct entry *en, enum workload_state s);

/* workload_bus.c.  0: an answer will come, later; -errno: it cannot be asked. */
int workload_query(struct workloads *w, struct entry *en);
int workload_call(struct workloads *w, struct entry *en, const char *method);
void workload_forget(struct entry *en);		/* no answer comes any more */
void workload_bus_close(struct workloads *w);

#endif
