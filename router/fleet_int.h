/* fleet_int.h - what fleet.c (the bus), fleet_worker.c and fleet_gen.c (the tries) share. */
#ifndef HEARTH_ROUTER_FLEET_INT_H
#define HEARTH_ROUTER_FLEET_INT_H

#include "router/fleet.h"

/* looks for silence in the time of a beat */
enum { FLEET_TICKS = 4, GEN_MAX_CHOICES = 128 };

struct event;

struct gen {
	struct fleet *fleet;
	struct worker *worker;
	struct gen *next, **prev;	/* of the worker */
	uint64_t id;
	uint32_t slot;
	uint32_t next_seq, credit, n, choices_left;
	bool choice_done[GEN_MAX_CHOICES];
	const struct attempt_hooks *hooks;
	void *arg;
};

struct model_name {
	struct model_name *next;
	char name[];
};

struct fleet {
	struct link_server *link;
	struct event *readable, *drain, *beat, *change, *use;
	struct boxes *boxes;
	void (*changed)(void *arg);
	void *arg;
	struct event_base *base;
	struct worker *workers;
	struct model_name *models;
	uint64_t next_uid, boot;
	uint32_t beat_ms, dead_ms, tick_ms;
	unsigned tick;
	bool drain_due;			/* it is active, or runs now */
	struct gen **slots;		/* a request's id holds its slot in the low 20 bits */
	uint32_t n_slots, *free_slots, n_free;
	uint64_t next_serial;
};

/* fleet.c */
int fleet_send(struct fleet *f, struct worker *w, enum wire_type t, const ProtobufCMessage *m);
/* The link is read before this turn of the loop is over. */
void fleet_drain_later(struct fleet *f);
/* A worker begins or ends to be in use: its box hears of it, a little later. */
void fleet_note_use(struct fleet *f);
void fleet_note_change(void *arg);	/* a worker or a box came, went or changed */
Hw__Welcome fleet_welcome(const struct fleet *f);

/* fleet_worker.c */
struct worker *worker_of_peer(const struct fleet *f, link_peer peer);	/* NULL: none */
void worker_free(struct worker *w);
/* A Hello has come: it is one of the fleet's now, and an older one of its name is not. */
void worker_welcome(struct fleet *f, const struct link_in *in);
void worker_take(struct fleet *f, struct worker *w, const struct wire_msg *m);
/* Once a tick: silent for too long, or nothing can be sent: it is lost.  Else a beat, when due. */
void worker_beat(struct fleet *f, struct worker *w, uint64_t now);
void worker_lose(struct fleet *f, struct worker *w, const char *why);	/* frees it */
void worker_fail_gens(struct worker *w, const char *why);

/* fleet_gen.c: what a worker says of a try; g may be gone afterwards. */
struct gen *gen_find(const struct fleet *f, const struct worker *w, uint64_t id);
void gen_fail(struct gen *g, const struct attempt_failure *why);
void gen_refused(struct gen *g, const Hw__Refused *m);
void gen_delta(struct gen *g, const Hw__Delta *d);
void gen_done(struct gen *g, const Hw__Done *d);

#endif
