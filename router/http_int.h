/* http_int.h - what http_server.c (listening), http_conn.c (one connection), http_socket.c (its
 * bytes), http_request.c (parsing) and http_reply.c share. */
#ifndef HEARTH_ROUTER_HTTP_INT_H
#define HEARTH_ROUTER_HTTP_INT_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <http_parser.h>

#include "router/http_server.h"

/* A request as it is read.  Pure: no socket, so that it can be fuzzed. */
struct http_request {
	http_parser parser;
	const struct http_limits *limits;
	struct buf text;		/* url, then names and values, each terminated */
	struct {
		uint32_t name, value;	/* offsets into text */
	} header[HTTP_MAX_HEADERS];
	uint32_t n_headers;
	uint32_t path, query;		/* offsets into text, once complete */
	size_t header_bytes;
	size_t body_room;		/* what all bodies together may still take */
	uint64_t chunk_left;		/* of the chunk at hand */
	unsigned chunk_end;		/* bytes of the CRLF behind it that are due */
	const char *fed_end;		/* of the bytes that are being read */
	struct buf body;
	bool in_value;			/* the last header callback was a value */
	bool headers_done, complete;
	bool expect_continue;
	int status;			/* refused with this; 0: fine so far */
	const char *why;
};

void http_request_init(struct http_request *r, const struct http_limits *l);
void http_request_done(struct http_request *r);
/* Reads on; answers the bytes used.  Stops at the end of the message (complete) or when
 * refused (status). */
size_t http_request_feed(struct http_request *r, const char *p, size_t n);
const char *http_request_header(const struct http_request *r, const char *name);
bool http_request_keep_alive(const struct http_request *r);

enum conn_state {
	CONN_IDLE,	/* between requests; no byte of the next one yet */
	CONN_READING,	/* a request is coming */
	CONN_CALL,	/* the handler has it */
	CONN_FLUSH,	/* the reply's last bytes, then close */
	CONN_LINGER,	/* half closed: what still comes is thrown away */
};

struct http_call {			/* is the connection: one call at a time */
	struct http_server *server;
	struct http_call *next, **prev;	/* of the server's list */
	evutil_socket_t fd;
	struct event readable, writable, timer;
	struct buf in;			/* bytes of later requests, while one is served */
	struct buf out;			/* of the reply; the first `sent` have left */
	size_t sent;
	struct http_call *queue_next, **queue_prev;	/* server's queue; NULL: not in it */
	enum conn_state state;
	struct http_request *req;	/* NULL while idle: 10,000 of them are cheap */
	size_t body_charged;		/* of the server's max_bodies */
	uint64_t started_ns, body_ns;
	uint32_t stall_mark;		/* low bits of bytes taken at the last look */
	uint64_t written;
	void (*gone)(void *arg);
	void (*drained)(void *arg);
	void *arg;
	int busy;			/* our frames on the stack */
	bool dead, deaf, close_after, chunked, head, begun, was_high, local;
	char peer[48];
	char id[HTTP_ID_BYTES];		/* of the request at hand */
};

struct http_server {
	struct event_base *base;
	struct http_limits limits;
	struct http_hooks hooks;
	struct evconnlistener **listeners;
	size_t n_listeners;
	struct event *rest;		/* accepting again after running out of descriptors */
	struct http_call *conns;
	uint32_t n_conns;
	struct http_call *queue, **queue_end;	/* to be written to, or to be gone on with */
	struct event *flush;		/* empties it at the end of the loop's turn */
	size_t bodies;			/* bytes held by requests */
	char *headers;
	uint64_t id_salt, n_requests;
	bool draining;
	char scratch[64 << 10];		/* what recv() brought last */
};

/* http_conn.c */
void conn_new(struct http_server *s, evutil_socket_t fd, const struct sockaddr *sa);
void conn_close(struct http_call *c);
/* Around everything that may end the connection: it is freed by the last leave. */
void conn_enter(struct http_call *c);
void conn_leave(struct http_call *c);
void conn_read(struct http_call *c, const char *p, size_t n);	/* bytes came */
void conn_sent(struct http_call *c);		/* bytes left, not always all of them */
void conn_lose(struct http_call *c);		/* the client is gone or is cut off */
void conn_drain(struct http_call *c);		/* one that is idle */
void conn_call_over(struct http_call *c);	/* the reply is written to the buffer */

/* http_socket.c */
int http_socket_open(struct http_call *c, evutil_socket_t fd);
void http_socket_mute(struct http_call *c);	/* no event of it comes any more */
void http_socket_close(struct http_call *c);
void http_socket_put(struct http_call *c, const void *p, size_t n);
size_t http_socket_unsent(const struct http_call *c);
/* conn_sent() is called at the end of the loop's turn, after what there is was sent. */
void http_socket_later(struct http_call *c);
/* Sends what the kernel takes; false: the connection is broken, or memory ran out. */
bool http_socket_send(struct http_call *c);
void http_socket_flush(evutil_socket_t fd, short what, void *server);

#endif
