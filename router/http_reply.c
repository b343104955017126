/* http_reply.c - a call's question and its answer. */
#include <stdio.h>
#include <string.h>

#include "router/http_int.h"

enum { HEAD_BYTES = 1000 };	/* most heads are smaller, and so is a short answer with its */

const char *http_status_text(int status)
{
	static const struct {
		int status;
		const char *text;
	} known[] = {
		{ 200, "OK" }, { 204, "No Content" }, { 400, "Bad Request" },
		{ 401, "Unauthorized" }, { 403, "Forbidden" }, { 404, "Not Found" },
		{ 405, "Method Not Allowed" }, { 408, "Request Timeout" }, { 409, "Conflict" },
		{ 413, "Content Too Large" }, { 415, "Unsupported Media Type" },
		{ 417, "Expectation Failed" }, { 422, "Unprocessable Content" },
		{ 429, "Too Many Requests" }, { 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" }, { 501, "Not Implemented" },
		{ 502, "Bad Gateway" }, { 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" }, { 505, "HTTP Version Not Supported" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (known[i].status == status)
			return known[i].text;
	return "Status";
}

const char *http_call_method(const struct http_call *c)
{
	return http_method_str((enum http_method)c->req->parser.method);
}

const char *http_call_path(const struct http_call *c)
{
	return c->req->text.p + c->req->path;
}

const char *http_call_header(const struct http_call *c, const char *name)
{
	return http_request_header(c->req, name);
}

const char *http_call_body(const struct http_call *c, size_t *ret_n)
{
	*ret_n = c->req->body.n;
	return c->req->body.p ? c->req->body.p : "";
}

const char *http_call_id(const struct http_call *c)
{
	return c->id;
}

const char *http_call_peer(const struct http_call *c)
{
	return c->peer;
}

bool http_call_is_local(const struct http_call *c)
{
	return c->local;
}

uint64_t http_call_started_ns(const struct http_call *c)
{
	return c->started_ns;
}

void http_call_watch(struct http_call *c, void (*gone)(void *), void (*drained)(void *), void *arg)
{
	c->gone = gone;
	c->drained = drained;
	c->arg = arg;
}

static void put_text(struct http_call *c, const char *s)
{
	http_socket_put(c, s, strlen(s));
}

static void put_head(struct http_call *c, int status, const char *headers, const char *type,
		     const char *framing)
{
	char line[64];

	buf_reserve(&c->out, HEAD_BYTES);
	snprintf(line, sizeof(line), "HTTP/1.1 %d ", status);
	put_text(c, line);
	put_text(c, http_status_text(status));
	put_text(c, "\r\nx-request-id: ");
	put_text(c, c->id);
	if (type) {
		put_text(c, "\r\nContent-Type: ");
		put_text(c, type);
	}
	put_text(c, "\r\n");
	if (c->server->headers)
		put_text(c, c->server->headers);
	if (headers)
		put_text(c, headers);
	put_text(c, framing);
	put_text(c, c->close_after ? "Connection: close\r\n\r\n" : "\r\n");
}

void http_reply(struct http_call *c, int status, const char *headers, const char *type,
		const char *body, size_t n)
{
	char framing[64] = "";

	if (c->server->draining)
		c->close_after = true;
	if (status != 204)
		snprintf(framing, sizeof(framing), "Content-Length: %zu\r\n", n);
	put_head(c, status, headers, status == 204 ? NULL : type, framing);
	if (!c->head && status != 204)
		http_socket_put(c, body, n);
	conn_call_over(c);
}

void http_begin(struct http_call *c, int status, const char *headers, const char *type)
{
	c->begun = true;
	c->chunked = c->req->parser.http_minor >= 1;
	if (!c->chunked || c->server->draining)
		c->close_after = true;
	put_head(c, status, headers, type, c->chunked ? "Transfer-Encoding: chunked\r\n" : "");
}

/* "1f4\r\n" without snprintf: this runs once a token. */
static size_t put_chunk_size(char out_text[20], size_t n)
{
	static const char hex[] = "0123456789abcdef";
	char rev[16];
	size_t k = 0, i = 0;

	do {
		rev[k++] = hex[n & 15];
		n >>= 4;
	} while (n);
	while (k)
		out_text[i++] = rev[--k];
	out_text[i++] = '\r';
	out_text[i++] = '\n';
	return i;
}

void http_write(struct http_call *c, const char *p, size_t n)
{
	char size[20];

	if (n == 0 || c->dead || c->head)
		return;
	if (c->chunked)
		http_socket_put(c, size, put_chunk_size(size, n));
	http_socket_put(c, p, n);
	if (c->chunked)
		http_socket_put(c, "\r\n", 2);
	if (http_backlog(c) > HTTP_HIGH_WATER)
		c->was_high = true;
}

size_t http_backlog(const struct http_call *c)
{
	return http_socket_unsent(c);
}

void http_end(struct http_call *c, bool close)
{
	if (close)
		c->close_after = true;
	if (c->chunked && !c->head)
		http_socket_put(c, "0\r\n\r\n", 5);
	conn_call_over(c);
}

void http_abort(struct http_call *c)
{
	c->gone = c->drained = NULL;
	conn_close(c);
}
