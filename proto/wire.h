/* wire.h - frames: what stands before each message of hearth.proto, and the checks.
 *
 * A message on a socket is two ZeroMQ frames: `struct wire_header`, 12 bytes little
 * endian, and the packed body.
 *
 *	bytes 0..1  'H' 'W'
 *	byte  2     WIRE_VERSION of the sender
 *	byte  3     enum wire_type
 *	bytes 4..7  sequence number: 0, 1, 2.. per connection and direction
 *	bytes 8..11 length of the body
 *
 * Unpacking checks, in this order: magic and version; that the type exists and may
 * come from this side; the length against the frame and against the type's limit; the
 * sequence number (a gap means that a frame was lost: the link must fail, never go on);
 * then protobuf; then every value that the receiver would otherwise have to believe.
 * Answers of the reader: 0, -EPROTO (the peer is broken or hostile: close the link),
 * -EPROTONOSUPPORT (another version), -EMSGSIZE, -EILSEQ (sequence gap), -ENOMEM.
 */
#ifndef HEARTH_PROTO_WIRE_H
#define HEARTH_PROTO_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/err.h"
#include "proto/hearth.pb-c.h"

#define WIRE_VERSION 1
#define WIRE_HEADER_BYTES 12

enum wire_type {
	WIRE_HELLO = 1, WIRE_WORKER_BEAT, WIRE_ACCEPTED, WIRE_REFUSED, WIRE_PROGRESS,
	WIRE_DELTA, WIRE_DONE,
	WIRE_BOX_REPORT = 16, WIRE_BOX_REPLY,
	WIRE_WELCOME = 32, WIRE_ROUTER_BEAT, WIRE_GENERATE, WIRE_CANCEL, WIRE_CREDIT, WIRE_DRAIN,
	WIRE_BOX_COMMAND = 48, WIRE_BOX_USE,
	WIRE_GOODBYE = 64,
	WIRE_N_TYPES
};

/* A box (hearthd) is on the worker's side of the wire; its Hello says that it is one. */
enum wire_side { WIRE_FROM_WORKER = 1, WIRE_FROM_ROUTER = 2 };

enum { WIRE_MAX_BOX_MODELS = 256 };

/* Whether s can be an alias: what requests call a model, in the router's sections and chains, on a
 * box and of a worker.  WIRE_ALIAS_RULE is the rule for a person. */
bool wire_alias_ok(const char *s);
enum { WIRE_MAX_ALIAS = 100 };	/* bytes; the rule says it, too */
#define WIRE_ALIAS_RULE "up to 100 letters, digits and . _ - : / that begin with none of . - /"

const char *wire_type_name(enum wire_type t);	/* "delta"; "?" for an unknown one */
size_t wire_limit(enum wire_type t);		/* bytes of the body at most; 0: unknown type */

/* A received message.  `body` is the unpacked struct of `type`: hw->hello, ...  It lives until
 * wire_msg_done(); of a Delta all parts are in one piece of memory. */
struct wire_msg {
	enum wire_type type;
	struct wire_arena *arena;	/* NULL: each part has memory of its own */
	union {
		ProtobufCMessage *any;
		Hw__Hello *hello;
		Hw__WorkerBeat *worker_beat;
		Hw__Accepted *accepted;
		Hw__Refused *refused;
		Hw__Progress *progress;
		Hw__Delta *delta;
		Hw__Done *done;
		Hw__BoxReport *box_report;
		Hw__BoxReply *box_reply;
		Hw__BoxCommand *box_command;
		Hw__BoxUse *box_use;
		Hw__Welcome *welcome;
		Hw__RouterBeat *router_beat;
		Hw__Generate *generate;
		Hw__Cancel *cancel;
		Hw__Credit *credit;
		Hw__Drain *drain;
		Hw__Goodbye *goodbye;
	} body;
};

void wire_msg_done(struct wire_msg *m);		/* frees the body; m may be all zero */

/* Writes header and body.  m is any message of hearth.proto whose wire_type is t.
 * -EMSGSIZE: over the type's limit (nothing written). */
int wire_pack(enum wire_type t, uint32_t seq, const ProtobufCMessage *m, struct buf *header,
	      struct buf *body);
/* The same in two steps, into memory of the caller's.  wire_measure(): the body's bytes, or
 * -EMSGSIZE; `body` then has room for that many. */
int wire_measure(enum wire_type t, const ProtobufCMessage *m, size_t *ret_n);
void wire_pack_into(enum wire_type t, uint32_t seq, const ProtobufCMessage *m, size_t n,
		    unsigned char header[WIRE_HEADER_BYTES], void *body);

/* See the top.  On success *ret is owned by the caller and next_seq moved on. */
int wire_unpack(enum wire_side from, uint32_t *next_seq, const void *header, size_t n_header,
		const void *body, size_t n_body, struct wire_msg *ret, struct err *e);

#endif
