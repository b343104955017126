/* link.h - the ZeroMQ sockets behind the wire.
 *
 * One router binds a ROUTER socket; workers connect DEALER sockets to it.  A link has
 * one descriptor for the caller's event loop.  ZeroMQ's descriptor is edge-triggered:
 * after a wake AND after every send the caller must call link_*_recv() until -EAGAIN
 * (both directions share the edge).  So a loop also calls it once before it sleeps.
 * Once is enough for all sends before it, and worth waiting for: a call that brings a
 * message asks the kernel for nothing, one that answers -EAGAIN costs a few system calls.
 *
 * Peers: the router knows a worker as a `link_peer`, a number that is never used twice;
 * a worker that restarts, or reconnects after a cut, is a new peer.  Liveness is the
 * caller's (beats); what the link notices by itself is a closed connection: with
 * ipc:// and tcp:// the end of a worker's process arrives as LINK_GONE at once, after
 * what the worker had sent before (under a flood of others' messages, perhaps before
 * the last of it, which is then dropped).
 *
 * Security: ipc:// paths are created 0660 and report the peer's pid and uid; that mode is
 * all that guards them, keys or not.  tcp:// off loopback needs CURVE keys and an allow-list,
 * or link_server_open() answers -EPERM; with keys, tcp:// on loopback and abstract sockets
 * (ipc://@NAME, which have no mode) are closed to others too.
 *
 * One thread per link.  Never fork with an open link.
 */
#ifndef HEARTH_PROTO_LINK_H
#define HEARTH_PROTO_LINK_H

#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"
#include "proto/wire.h"

typedef uint64_t link_peer;

/* Z85 texts of 40 characters, as zmq_curve_keypair() prints them.  All NULL: no CURVE. */
struct link_curve {
	const char *own_public, *own_secret;
	const char *server_public;	/* client only */
	const char *const *allowed;	/* server only: public keys of workers */
	size_t n_allowed;
};

enum { LINK_KEY = 41, LINK_FINGERPRINT = 40 };	/* bytes of such a text, of a fingerprint */

/* A new pair.  0; -ENOTSUP: ZeroMQ was built without CURVE. */
int link_make_keys(char ret_public[LINK_KEY], char ret_secret[LINK_KEY]);
/* -EINVAL: not a key. */
int link_public_of(const char *secret, char ret_public[LINK_KEY]);
/* The first 40 characters of a file, or of "credential:NAME" (svc_path()).  -EINVAL: it has less, or
 * they are no key; codes of lib/file.h; e says which. */
int link_read_secret(const char *file, char ret[LINK_KEY], struct err *e);
/* Eight groups of four hexadecimal digits, for people to compare.  -EINVAL: not a key. */
int link_fingerprint(const char *key, char ret[LINK_FINGERPRINT]);

enum link_event {
	LINK_MESSAGE,	/* ret->msg is filled */
	LINK_NEW,	/* server: a peer's first valid Hello; ret->msg is that Hello.
			 * client: connected (send Hello now; sequence numbers start anew) */
	LINK_GONE,	/* the connection is closed, or the peer broke the protocol (ret->why) */
};

struct link_in {
	enum link_event event;
	link_peer peer;		/* server only */
	struct wire_msg msg;	/* LINK_MESSAGE, LINK_NEW on a server; wire_msg_done() it */
	int pid, uid;		/* LINK_NEW on a server over ipc://: who is there, as the kernel
				 * says; -1 over tcp:// */
	char why[128];		/* LINK_GONE: for the log */
};

/* ---- router side ---------------------------------------------------------------- */
struct link_server;

int link_server_open(const char *const *endpoints, size_t n, const struct link_curve *curve,
		     struct link_server **ret, struct err *e);
struct link_server *link_server_close(struct link_server *s);
int link_server_fd(const struct link_server *s);
/* 0, or -EAGAIN when there is nothing now (then *ret is not touched). */
int link_server_recv(struct link_server *s, struct link_in *ret);
/* 0; -ENOENT: no such peer any more; -EAGAIN: its pipe is full (credits make this a bug or
 * a dead peer: give it up); -EMSGSIZE; -ENOMEM. */
int link_server_send(struct link_server *s, link_peer peer, enum wire_type t,
		     const ProtobufCMessage *m);
/* The allow-list from now on.  Peers that came with a key which is not on it are LINK_GONE with
 * the next link_server_recv().  0, also without CURVE (then it is for the next start); -EINVAL:
 * not a key of 40 characters; -ENOMEM. */
int link_server_allow(struct link_server *s, const char *const *allowed, size_t n);
/* Forgets a peer; nothing more is sent to or received from it. */
void link_server_drop(struct link_server *s, link_peer peer);

/* ---- worker side ---------------------------------------------------------------- */
struct link_client;

/* Connects, and reconnects by itself (0.2 s doubling to 10 s, with jitter).  The keys are not used
 * on a path of ipc://. */
int link_client_open(const char *endpoint, const struct link_curve *curve,
		     struct link_client **ret, struct err *e);
struct link_client *link_client_close(struct link_client *c);
int link_client_fd(const struct link_client *c);
int link_client_recv(struct link_client *c, struct link_in *ret);
/* 0; -ENOTCONN; -EAGAIN; -EMSGSIZE; -ENOMEM. */
int link_client_send(struct link_client *c, enum wire_type t, const ProtobufCMessage *m);
/* Gives the present connection up and makes a new one (the peer was silent too long). */
int link_client_renew(struct link_client *c);

#endif
