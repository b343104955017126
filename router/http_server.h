/* http_server.h - HTTP/1.1 towards clients, on libevent and http-parser.
 *
 * One request of a connection is served at a time; a request and its reply are a
 * `struct http_call`.  The server reads on while a reply is made, so that a client that
 * leaves is noticed at once: bytes of later requests wait (HTTP_PIPELINE_BYTES at most);
 * when more come, they are thrown away and the connection ends with this reply.  Nothing a
 * client sends can therefore grow memory beyond its own announced body.
 *
 * Refused before a handler sees it: headers that take too long or too much room, bodies
 * over the cap, Transfer-Encoding other than chunked, Transfer-Encoding together with
 * Content-Length.  All replies of the server itself go through http_limits.error, so that
 * they have the dialect's shape.  Every reply, theirs too, says x-request-id.
 *
 * One thread: that of the event base.
 */
#ifndef HEARTH_ROUTER_HTTP_SERVER_H
#define HEARTH_ROUTER_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/err.h"

struct event_base;
struct http_server;
struct http_call;

enum {
	HTTP_PIPELINE_BYTES = 64 << 10,
	HTTP_HIGH_WATER = 64 << 10,	/* bytes a reader may be behind before it gets no more */
	HTTP_LOW_WATER = 16 << 10,	/* drained() is called at or below this */
	HTTP_MAX_HEADERS = 128,
	HTTP_ID_BYTES = 32,		/* of a request's id, with the end */
};

struct http_limits {
	size_t max_body;		/* bytes of one request */
	size_t max_bodies;		/* of all requests being read or served */
	size_t max_header;		/* bytes of request line and headers */
	uint32_t header_ms;		/* from first byte to end of headers */
	uint32_t body_ms;		/* silence inside a body */
	uint32_t idle_ms;		/* between requests */
	uint32_t stall_ms;		/* a reader that takes nothing */
	uint32_t max_connections;
};

struct http_hooks {
	/* A whole request is there.  Answer now or later; every call must end with
	 * http_reply(), http_end() or http_abort(), unless its gone() came first. */
	void (*request)(void *arg, struct http_call *call);
	/* The body of an error reply in the dialect's shape. */
	void (*error)(void *arg, int status, const char *message, struct buf *out);
	void *arg;
};

/* listen: "host:port" texts; port 0 takes a free one. */
int http_server_open(struct event_base *base, const char *const *listen, size_t n,
		     const struct http_limits *limits, const struct http_hooks *hooks,
		     struct http_server **ret, struct err *e);
/* One more listener: a socket that listens already, and accepts from http_server_accept()
 * on.  Takes fd when it answers 0. */
int http_server_adopt(struct http_server *s, int fd, struct err *e);
void http_server_accept(struct http_server *s);
/* "host:port" of a listening socket, as http_is_loopback() reads it.  -EINVAL: not one of
 * TCP. */
int http_socket_address(int fd, char *ret, size_t n, struct err *e);
/* Stops accepting; calls under way go on, idle connections are closed: those that never
 * sent anything after a moment, since their first request may be on its way. */
void http_server_drain(struct http_server *s);
struct http_server *http_server_close(struct http_server *s);
uint32_t http_server_connections(const struct http_server *s);
/* The port of the i-th listener, 0 past the end. */
uint16_t http_server_port(const struct http_server *s, size_t i);
/* Header lines ("Name: value\r\n") that every reply gets; copied. */
int http_server_set_headers(struct http_server *s, const char *lines);
/* -EINVAL: `address` is not "host:port" or "[v6]:port" with a port in digits.  Names are not
 * looked up. */
int http_check_address(const char *address, struct err *e);
/* Whether `address` ("host:port") is on loopback. */
bool http_is_loopback(const char *address);

/* ---- a call ----------------------------------------------------------------- */

const char *http_call_method(const struct http_call *c);	/* "GET" */
const char *http_call_path(const struct http_call *c);		/* without query */
const char *http_call_header(const struct http_call *c, const char *lower_case_name);
const char *http_call_body(const struct http_call *c, size_t *ret_n);
const char *http_call_id(const struct http_call *c);		/* what x-request-id says */
const char *http_call_peer(const struct http_call *c);		/* address, without port */
bool http_call_is_local(const struct http_call *c);		/* from loopback */
uint64_t http_call_started_ns(const struct http_call *c);	/* first byte of the request */

/* gone: the client left; the call is over.  drained: the reader caught up. */
void http_call_watch(struct http_call *c, void (*gone)(void *arg), void (*drained)(void *arg),
		     void *arg);

/* A whole reply.  `headers`: more header lines, or NULL.  Ends the call. */
void http_reply(struct http_call *c, int status, const char *headers, const char *type,
		const char *body, size_t n);
/* A reply in pieces.  http_write() never fails: a lost client is told by gone(). */
void http_begin(struct http_call *c, int status, const char *headers, const char *type);
void http_write(struct http_call *c, const char *p, size_t n);
/* Bytes that the client has not taken yet. */
size_t http_backlog(const struct http_call *c);
/* Ends the call; with `close` the connection too. */
void http_end(struct http_call *c, bool close);
/* Cuts the connection. */
void http_abort(struct http_call *c);

const char *http_status_text(int status);

#endif
