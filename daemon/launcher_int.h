/* launcher_int.h - the launcher's own, shared by launcher.c (what happened), launcher_time.c (what
 * is due), launcher_place.c (who may start, who must go) and launcher_ask.c (what people want). */
#ifndef HEARTH_DAEMON_LAUNCHER_INT_H
#define HEARTH_DAEMON_LAUNCHER_INT_H

#include "daemon/launcher.h"

struct launcher {
	struct launch_policy policy;
	struct launch_model model[LAUNCH_MAX_MODELS];
	size_t n;
	uint64_t version;
	uint64_t bytes_s;	/* of the loads measured so far; 0: none */
	uint64_t asked_last;	/* orders wishes of the same moment */
	uint64_t placed_ns;	/* when launch_place() last looked */
	bool router, stopping;
};

struct launch_model *launch_find(struct launcher *l, const char *alias);
/* The one place where a state changes. */
void launch_enter(struct launcher *l, struct launch_model *m, enum launch_state s, uint64_t now);
void launch_say(struct launcher *l, struct launch_model *m, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));	/* the reason */
void launch_want(struct launcher *l, struct launch_model *m, uint64_t now);
/* READY -> RETIRING, or whatever takes a process down from where it is. */
void launch_retire(struct launcher *l, struct launch_model *m, uint64_t now);
/* STOPPING now, whatever it does. */
void launch_stop(struct launcher *l, struct launch_model *m, uint64_t now);
bool launch_has_process(const struct launch_model *m);
bool launch_loads(const struct launch_model *m);	/* its process is not ready yet */
/* Drops those that are gone; what points at a model is stale afterwards. */
void launch_forget(struct launcher *l);
/* Starts those that wait, as far as places and memory go. */
void launch_place(struct launcher *l, uint64_t now);
/* When launch_place() may find more than now. */
uint64_t launch_place_due(const struct launcher *l);

#endif
