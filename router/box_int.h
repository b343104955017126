/* box_int.h - the boxes' own, shared by box.c (who is there) and box_ask.c (what is asked). */
#ifndef HEARTH_ROUTER_BOX_INT_H
#define HEARTH_ROUTER_BOX_INT_H

#include "router/box.h"

struct box_ask {		/* a person waits for the answer */
	struct box_ask *next;
	uint64_t request;
	link_peer peer;
	void (*done)(void *arg, bool ok, const char *message);
	void *arg;
};

struct box_wait {		/* requests wait for a model */
	struct box_wait *next;
	uint32_t n;
	char alias[];
};

struct boxes {
	struct boxes_hooks hooks;
	struct box *list;
	struct box_ask *asked;
	struct box_wait *waits;
	uint64_t next_request;
};

void boxes_send(struct boxes *b, struct box *x, enum wire_type t, const ProtobufCMessage *m);
uint32_t boxes_waiting(const struct boxes *b, const char *alias);
void boxes_replied(struct boxes *b, link_peer peer, const Hw__BoxReply *r);
void boxes_fail_asked(struct boxes *b, link_peer peer, const char *why);

#endif
