/* memory_conf.h - the rows of hearthd's table that are about memory, and their values. */
#ifndef HEARTH_DAEMON_MEMORY_CONF_H
#define HEARTH_DAEMON_MEMORY_CONF_H

#include "daemon/broker.h"
#include "lib/conf.h"

#define MEMORY_CONF_SECTIONS \
	{ "memory", false, "Who may have how much of this box's memory" }, \
	{ "workload", true, "Something that is not Hearth's and may be stopped to make room" }

#define MEMORY_CONF_K(section, key, type, min, max, def, reload, help) \
	{ section, key, type, min, max, NULL, def, reload, help }
#define MEMORY_CONF_MIB 100000000
#define MEMORY_CONF_KEYS \
	MEMORY_CONF_K("memory", "socket", CONF_TEXT, 1, 100, NULL, false, \
	  "unix socket where workers present their budgets (default: memory, in box.run_dir)"), \
	MEMORY_CONF_K("memory", "reserve_mib", CONF_INT, 0, MEMORY_CONF_MIB, "0", true, \
	  "never granted, MiB; 0: 12 GiB, or an eighth of a box below 96 GiB"), \
	MEMORY_CONF_K("memory", "gpu_reserve_mib", CONF_INT, 0, MEMORY_CONF_MIB, "512", true, \
	  "never granted of a GPU with memory of its own, MiB"), \
	MEMORY_CONF_K("memory", "yellow_mib", CONF_INT, 0, MEMORY_CONF_MIB, "0", true, \
	  "less available: workers admit nothing new, MiB; 0: half the reserve"), \
	MEMORY_CONF_K("memory", "red_mib", CONF_INT, 0, MEMORY_CONF_MIB, "0", true, \
	  "less available: preempt, refuse, stop the youngest worker, MiB; 0: a quarter"), \
	MEMORY_CONF_K("memory", "yellow_pressure", CONF_INT, 0, 100, "10", true, \
	  "yellow when all tasks waited this much of a second, %; 0: not looked at"), \
	MEMORY_CONF_K("memory", "red_pressure", CONF_INT, 0, 100, "40", true, \
	  "the same for red, %"), \
	MEMORY_CONF_K("memory", "watch_ms", CONF_INT, 50, 1000, "200", true, \
	  "memory is looked at this often, ms"), \
	MEMORY_CONF_K("memory", "calm_ms", CONF_INT, 0, 600000, "5000", true, \
	  "quiet for so long before yellow or red is over, ms"), \
	MEMORY_CONF_K("memory", "back_s", CONF_INT, 0, 3600, "10", true, \
	  "an ended worker's memory is waited for this long before others are refused, s"), \
	{ "memory", "drop_caches", CONF_CHOICE, 0, 0, "auto|always|never", "auto", true, \
	  "page cache is dropped before a judgement: when it stands in the way, or not" }, \
	MEMORY_CONF_K("memory", "drop_socket", CONF_TEXT, 1, 100, \
	  "/run/hearth-dropcaches.socket", false, "where the helper that drops caches listens"), \
	{ "memory", "judge", CONF_CHOICE, 0, 0, "free|available", "free", true, \
	  "what must hold a budget: MemFree too (a unified-memory GPU sees no more), or " \
	  "MemAvailable alone" }, \
	MEMORY_CONF_K("memory", "limit_mib", CONF_INT, 0, MEMORY_CONF_MIB, "0", true, \
	  "the box counts as no larger than this, MiB; 0: as it is"), \
	MEMORY_CONF_K("workload", "unit", CONF_TEXT, 1, 200, NULL, true, \
	  "its systemd unit: tts.service, docker-ID.scope"), \
	MEMORY_CONF_K("workload", "memory", CONF_TEXT, 1, 32, NULL, true, \
	  "what stopping it gives, as 14G"), \
	MEMORY_CONF_K("workload", "stop-for", CONF_TEXT, 1, 1000, NULL, true, \
	  "aliases it makes room for, a blank between; *: any"), \
	MEMORY_CONF_K("workload", "restart", CONF_BOOL, 0, 0, "yes", true, \
	  "start it again when the alias is unloaded")

struct workload_conf {
	char *name, *unit, *stop_for;
	uint64_t memory;
	bool restart;
};

struct memory_conf {
	char *socket, *drop_socket;
	char *state_dir;		/* where it is kept which workloads were stopped */
	uint32_t watch_ms;
	uint64_t yellow, red, reserve;	/* 0: worked out when the box is known */
	struct broker_policy policy;	/* with those still 0 */
	struct workload_conf *workloads;
	size_t n_workloads;
};

/* run_dir: of sockets and state.  c stays the caller's and may go.  0; -EINVAL with what is wrong;
 * -ENOMEM. */
int memory_conf_load(const struct conf *c, const char *run_dir, struct memory_conf **ret,
		     struct err *e);
struct memory_conf *memory_conf_free(struct memory_conf *m);	/* NULL ok; returns NULL */
/* The policy for a box of this size, every number in it. */
struct broker_policy memory_conf_policy(const struct memory_conf *m, uint64_t total);
/* Whether this workload makes room for the alias. */
bool workload_conf_for(const struct workload_conf *w, const char *alias);

#endif
