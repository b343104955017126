/* http_int.h - what http_server.c (sockets), http_conn.c (one connection), http_request.c (parsing)
 * and http_reply.c share. */
#ifndef HEARTH_ROUTER_HTTP_INT_H
#define HEARTH_ROUTER_HTTP_INT_H

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
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
	struct bufferevent *bev;
	struct event *timer;
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
	bool dead, kick, deaf, close_after, chunked, head, begun, was_high, local;
	char peer[48];
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
	size_t bodies;			/* bytes held by requests */
	char *headers;
	bool draining;
};

/* http_conn.c */
void conn_new(struct http_server *s, evutil_socket_t fd, const struct sockaddr *sa);
void conn_close(struct http_call *c);
void conn_drain(struct http_call *c);		/* one that is idle */
void conn_call_over(struct http_call *c);	/* the reply is written to the buffer */
void conn_watch_stall(struct http_call *c);

#endif
