/* link_int.h - what the two sides of a link share: link_socket.c (a ZeroMQ socket and its
 * frames), link_monitor.c (what becomes of its connections) and link_auth.c (who may
 * connect), for link_server.c and link_client.c.  Nothing outside proto/ knows libzmq.
 *
 * Why so much care with reading.  Asking a ZeroMQ socket anything (ZMQ_EVENTS, zmq_poll, a
 * receive that finds nothing) costs two system calls or more, and one wake of the loop
 * may bring hundreds of messages.  So messages are read until -EAGAIN and nothing else is
 * asked between them; which of the sockets has something at all is asked once a wake, of
 * the epoll that joins them.
 */
#ifndef HEARTH_PROTO_LINK_INT_H
#define HEARTH_PROTO_LINK_INT_H

#include <stdbool.h>
#include <zmq.h>

#include "proto/link.h"

/* ---- link_socket.c ------------------------------------------------------------- */

struct link_socket {
	void *zmq;		/* the data socket */
	void *monitor;		/* link_monitor.c */
	int epfd;		/* borrowed: joins the descriptors; -1: not yet */
};

/* All options that both sides want; `max_message`: bytes of the largest frame that is
 * taken.  The monitor reports `events` and is reachable as monitor_name. */
int link_socket_open(struct link_socket *s, void *ctx, int type, const char *monitor_name,
		     int events, size_t max_message);
void link_socket_close(struct link_socket *s);

int link_set_int(void *zmq, int option, int value);
/* Adds the socket's descriptor to epfd, `which` is what link_ready() answers for it. */
int link_watch(int epfd, void *zmq, unsigned which);
void link_unwatch(int epfd, void *zmq);
/* The `which` bits of the watched sockets that have something, one system call.  A socket
 * is named only if it has been read until it was found empty once: read it before. */
unsigned link_ready(int epfd);
/* Lets the socket process what its I/O thread told it, without reading a message: until
 * then its descriptor stays readable. */
void link_settle(void *zmq);

/* One message whose routing frame, if any, was taken; -EAGAIN: none is there.  *body stays
 * initialised and is the caller's to close: it knows the connection. */
int link_recv_wire(void *zmq, enum wire_side from, uint32_t *next_seq, struct wire_msg *ret,
		   zmq_msg_t *body, struct err *e);
/* The descriptor of the connection that m came by; -1: none. */
int link_source_fd(const zmq_msg_t *m);
/* id: the routing frame, NULL on a client.  Moves *seq on when the message is on its way. */
int link_send_wire(void *zmq, const void *id, size_t n_id, enum wire_type t, uint32_t *seq,
		   const ProtobufCMessage *m);
/* Reads and throws away what is left of a message of odd shape. */
void link_drain_parts(void *zmq);
void link_set_why(struct link_in *in, const char *text);

/* ---- link_monitor.c ------------------------------------------------------------- */

int link_monitor_open(void *zmq, void *ctx, const char *name, int events, void **ret);
void link_monitor_close(void *zmq, void *monitor);
/* Takes the next event, one of ZMQ_EVENT_*, and the descriptor it is about: 0, -EAGAIN. */
int link_monitor_next(void *monitor, int *ret_event, int *ret_fd);

/* ---- link_auth.c ---------------------------------------------------------------- */

struct link_auth;	/* a server's door: CURVE keys and the list of those let in */

/* Who answers for c->allowed when somebody knocks; before any bind. */
int link_auth_open(void *ctx, const struct link_curve *c, struct link_auth **ret);
/* What `zmq` binds from now on is closed to all but those; what it has bound stays as it is. */
int link_auth_lock(void *zmq, const struct link_curve *c);
int link_auth_allow(struct link_auth *a, const char *const *allowed, size_t n);
bool link_auth_allows(const struct link_auth *a, const char *key);
/* Whoever came by CURVE has a key, which is asked for again: a connection may be older than the
 * list.  key NULL: only by a socket's file could it come in, and the mode of that has judged. */
bool link_auth_may_greet(const struct link_auth *a, const char *key, int fd);
struct link_auth *link_auth_close(struct link_auth *a);
void *link_auth_socket(const struct link_auth *a);	/* to be watched */
void link_auth_answer(struct link_auth *a);		/* all who knock now */
int link_auth_own_keys(void *zmq, const char *own_public, const char *own_secret);
/* Whether CURVE may be left away: nobody off this machine can reach the endpoint. */
bool link_auth_is_loopback(const char *endpoint);
/* A socket in the file system: its mode says who may connect, so no CURVE is spoken there.  Both
 * sides must decide alike.  An abstract one (ipc://@) has no mode. */
bool link_auth_is_file(const char *endpoint);

#endif
