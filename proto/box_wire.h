/* box_wire.h - the packets between a worker and its box's hearthd: header, sizes, values.
 *
 *	0  'H' 'B'	2  version	3  type		4  length of the body, little-endian
 *
 * One packet is one message: the socket keeps them apart.  A type has a side that may send it
 * and a size limit; both are checked, and every value that the receiver would have to believe,
 * before a message is handed on.  Thread-safe.
 */
#ifndef HEARTH_PROTO_BOX_WIRE_H
#define HEARTH_PROTO_BOX_WIRE_H

#include "lib/buf.h"
#include "lib/err.h"
#include "proto/box.pb-c.h"

#define BOX_SOCKET "/run/hearthd/memory"	/* where hearthd listens unless told otherwise */

enum {
	BOX_VERSION = 1, BOX_HEADER_BYTES = 8,
	BOX_MAX_PACKET = 96 << 10,	/* below the default send buffer of a socket */
	BOX_MAX_NAME = 128,		/* bytes of an alias, with its terminator */
};

enum box_side { BOX_FROM_CLIENT = 1, BOX_FROM_DAEMON = 2 };

enum box_type {
	BOX_PRESENT = 1, BOX_TAKEN, BOX_ASK,
	BOX_GRANTED = 16, BOX_REFUSED, BOX_WAITING, BOX_LEVEL, BOX_MEMORY,
	BOX_N_TYPES,
};

struct box_msg {
	enum box_type type;
	union {
		ProtobufCMessage *any;
		Hb__Present *present;
		Hb__Taken *taken;
		Hb__Ask *ask;
		Hb__Granted *granted;
		Hb__Refused *refused;
		Hb__Waiting *waiting;
		Hb__Level *level;
		Hb__Memory *memory;
	} body;			/* owned */
};

void box_msg_done(struct box_msg *m);

/* Appends a whole packet.  -EMSGSIZE: larger than its type may be; -ENOMEM. */
int box_pack(enum box_type t, const ProtobufCMessage *m, struct buf *out);
/* -EPROTO, -EPROTONOSUPPORT, -EMSGSIZE with the reason; *ret is untouched on failure. */
int box_unpack(enum box_side from, const void *packet, size_t n, struct box_msg *ret,
	       struct err *e);

/* One packet on a socket; neither waits on a socket that is O_NONBLOCK.  0; -EAGAIN; -EPIPE: the
 * peer is gone; other -errno.  recv: -ECONNRESET at the end of the connection. */
int box_send(int fd, enum box_type t, const ProtobufCMessage *m);
int box_recv(int fd, enum box_side from, struct box_msg *ret, struct err *e);

/* A socket connected to path, close-on-exec.  The fd, or -errno (-ENAMETOOLONG). */
int box_connect(const char *path);

#endif
