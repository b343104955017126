/* box.h - the boxes: which models each could serve, how far each is, and asking for one.
 *
 * A box is a hearthd (docs/lifecycle.md).  It comes over the same bus as the workers: fleet.c
 * owns the bus and hands on what is a box's.  What a box said last is kept as it was said; with
 * its connection everything known about it goes.
 */
#ifndef HEARTH_ROUTER_BOX_H
#define HEARTH_ROUTER_BOX_H

#include "proto/link.h"

struct worker;
struct boxes;

struct box {
	struct box *next;
	link_peer peer;
	char *name, *version;
	uint64_t heard_ns, since_ns, reported_ns;
	Hw__BoxReport *report;		/* the last one; NULL before the first */
	bool doomed;			/* its pipe failed, the end will be reported */
};

struct boxes_hooks {
	int (*send)(void *arg, link_peer peer, enum wire_type t, const ProtobufCMessage *m);
	void (*drop)(void *arg, link_peer peer);
	void (*changed)(void *arg);	/* a box came, went or reported */
	const struct worker *(*workers)(void *arg);
	void *arg;
};

struct boxes *boxes_new(const struct boxes_hooks *h);		/* NULL: out of memory */
struct boxes *boxes_free(struct boxes *b);
const struct box *boxes_all(const struct boxes *b);

/* ---- the bus: fleet.c ------------------------------------------------------------------ */

/* A peer that greeted as a box; false: it cannot be taken. */
bool boxes_greet(struct boxes *b, const struct link_in *in);
/* Whether the peer is a box; then the message, or its end, was taken care of. */
bool boxes_take(struct boxes *b, const struct link_in *in, struct wire_msg *m);
/* Often: silence is noticed; `beat`: a sign of life is due. */
void boxes_tick(struct boxes *b, uint64_t dead_ms, bool beat);
/* Tells them what is in use; soon after a worker begins or ends to be, not only with each beat. */
void boxes_use(struct boxes *b);
/* Ends every connection. */
void boxes_goodbye(struct boxes *b, const char *why);

/* ---- what they could serve ----------------------------------------------------------------- */

enum box_will {
	BOX_NONE,	/* no box has such a model */
	BOX_NOT,	/* a box has it, but will not load it: `reason` */
	BOX_COMING,	/* it is being loaded, or will be when asked */
	BOX_HERE,	/* it is loaded: its worker is connected, or about to be */
};

struct box_outlook {
	enum box_will will;
	const struct box *box;
	const Hw__BoxModel *model;
	uint32_t ready_ms;		/* from now; UINT32_MAX: unknown */
};

/* The best there is for a worker's model name. */
struct box_outlook boxes_outlook(const struct boxes *b, const char *alias);
/* "loading 41 %, about 12 s": at least 80 bytes. */
void box_outlook_text(const struct box_outlook *o, char *ret, size_t n);
/* Asks the box of the outlook to load it, unless it is at it already. */
void boxes_demand(struct boxes *b, const struct box_outlook *o);
/* A request begins (+1) or ends (-1) to wait for a model: its box hears how many do. */
void boxes_wait(struct boxes *b, const char *alias, int change);
/* Whether the worker of this name is on its way out and must get nothing new. */
bool boxes_retires(const struct boxes *b, const char *worker);

/* The name of the box that reports a worker of this name; NULL: none does. */
const char *boxes_of_worker(const struct boxes *b, const char *worker);

/* ---- what people want ---------------------------------------------------------------- */

/* Sends a command; `done` is called once, later: ok false when the box refused or is lost.
 * box NULL: the one that has the alias, loaded or not.  0; -ENOENT: no such box or alias;
 * -ENOTUNIQ: several boxes have it, name one. */
int boxes_command(struct boxes *b, const char *box, const char *alias, Hw__BoxVerb verb,
		  void (*done)(void *arg, bool ok, const char *message), void *arg);
/* The one who asked is gone. */
void boxes_forget(struct boxes *b, void *arg);

const char *box_state_name(Hw__ModelState s);	/* "loading" */

#endif
