/* memory_int.h - what the memory*.c share. */
#ifndef HEARTH_DAEMON_MEMORY_INT_H
#define HEARTH_DAEMON_MEMORY_INT_H

#include <event2/util.h>

#include "daemon/checks.h"
#include "daemon/desk.h"
#include "daemon/drop.h"
#include "daemon/memory.h"
#include "daemon/workload.h"
#include "lib/meminfo.h"

enum { MEMORY_HOLDERS = 12, MEMORY_KNOWN = 32 };

struct event;
struct nvml;

struct memory {
	struct event_base *base;
	struct memory_conf *conf;
	struct memory_hooks hooks;
	struct broker *broker;
	struct desk *desk;
	struct drop *drop;
	struct workloads *workloads;
	struct nvml *nvml;
	struct event *watch, *slow, *turn;
	struct checks checks;
	struct meminfo info;			/* as last read */
	struct broker_measure measure;
	/* the window over which pressure is counted */
	uint64_t psi_ns, psi_us;
	uint32_t psi;
	bool psi_known;
	uint64_t dropping;			/* the claim that waits for a drop */
	uint64_t ending;			/* the lease that was told to end */
	unsigned slow_turns;
	struct {				/* since we started, for /metrics */
		uint64_t granted, refused, drops, drops_failed, stopped, looks;
		uint64_t levels[3];
		uint64_t gap_ns, looked_ns;	/* longest between two looks */
	} counts;
	bool gpus_own[BROKER_MAX_GPUS];		/* with memory of their own */
	struct {				/* what an alias presented last: for the table */
		char alias[BROKER_NAME];
		uint64_t need;
	} known[MEMORY_KNOWN];
	size_t n_known;
};

/* memory.c */
void memory_soon(struct memory *m);	/* the broker is asked again, in this turn of the loop */
uint64_t memory_known(const struct memory *m, const char *alias);

/* memory_measure.c */
void memory_measure(struct memory *m);
void memory_read_gpus(struct memory *m);	/* those with memory of their own */
size_t memory_holders(struct memory *m, struct broker_holder *ret, size_t n);

/* memory_act.c: an event's callback, which asks the broker until it has nothing to say. */
void memory_on_turn(evutil_socket_t fd, short what, void *arg);

/* memory_workload.c: the hooks of workload.h, and whether a worker of this alias is there or
 * wanted. */
void memory_on_stopping(void *arg, const struct workload *w);
void memory_on_stopped(void *arg, const struct workload *w);
void memory_on_none(void *arg);
bool memory_alias_needed(void *arg, const char *alias);

/* memory_desk.c: what visitors want, what they are told. */
void memory_on_present(void *arg, struct visitor *v, const Hb__Present *p);
/* The pool of a device: -1 the box's memory, else a GPU with memory of its own.  -EINVAL: none. */
int memory_pool(const struct memory *m, const char *device, int *ret, bool *ret_measured);
void memory_on_taken(void *arg, struct visitor *v, uint64_t bytes);
void memory_on_gone(void *arg, struct visitor *v);
void memory_tell_granted(struct memory *m, const struct broker_action *a);
void memory_tell_refused(struct memory *m, const struct broker_action *a,
			 const struct broker_holder *h, size_t n);
void memory_tell_waiting(struct memory *m, uint64_t id, const char *text);
void memory_tell_level(struct memory *m, enum broker_level level, const char *text);

/* memory_table.c: the answer to `hearthctl memory`. */
void memory_on_ask(void *arg, struct visitor *v, bool holders);

#endif
