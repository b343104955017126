/* http_request.c - one request's bytes into method, path, headers and body; http-parser
 * underneath, the limits and the refusals here. */
#include <string.h>
#include <strings.h>

#include "router/http_int.h"

static struct http_request *of(http_parser *p)
{
	return p->data;
}

static int refuse(struct http_request *r, int status, const char *why)
{
	r->status = status;
	r->why = why;
	return -1;
}

static int count(struct http_request *r, size_t n)
{
	r->header_bytes += n;
	return r->header_bytes > r->limits->max_header ?
		       refuse(r, 431, "request line and headers are too large") : 0;
}

static int put(struct http_request *r, const char *p, size_t n)
{
	if (count(r, n) < 0)
		return -1;
	return buf_put(&r->text, p, n) < 0 ? refuse(r, 503, "out of memory") : 0;
}

static int end_text(struct http_request *r)
{
	return buf_putc(&r->text, '\0') < 0 ? refuse(r, 503, "out of memory") : 0;
}

static int on_url(http_parser *p, const char *at, size_t n)
{
	return put(of(p), at, n);
}

/* What stands behind a chunked body is no header: it comes after all that was decided by them. */
static int on_field(http_parser *p, const char *at, size_t n)
{
	struct http_request *r = of(p);
	size_t from;

	if (r->headers_done)
		return count(r, n);
	if (r->in_value || r->n_headers == 0) {
		if (r->n_headers == HTTP_MAX_HEADERS)
			return refuse(r, 431, "too many headers");
		if (end_text(r) < 0)
			return -1;
		r->header[r->n_headers++].name = (uint32_t)r->text.n;
		r->header[r->n_headers - 1].value = 0;
		r->in_value = false;
	}
	from = r->text.n;
	if (put(r, at, n) < 0)
		return -1;
	for (size_t i = from; i < r->text.n; i++)
		if (r->text.p[i] >= 'A' && r->text.p[i] <= 'Z')
			r->text.p[i] = (char)(r->text.p[i] + 32);
	return 0;
}

static int on_value(http_parser *p, const char *at, size_t n)
{
	struct http_request *r = of(p);

	if (r->headers_done)
		return count(r, n);
	if (!r->in_value) {
		if (end_text(r) < 0)
			return -1;
		r->header[r->n_headers - 1].value = (uint32_t)r->text.n;
		r->in_value = true;
	}
	return put(r, at, n);
}

/* A header without a value gets no on_value call. */
static void settle_values(struct http_request *r)
{
	for (uint32_t i = 0; i < r->n_headers; i++)
		if (!r->header[i].value)
			r->header[i].value = (uint32_t)r->text.n;	/* the terminator: "" */
}

/* Path and query of "/p?q" or "http://host/p?q". */
static int split_url(struct http_request *r)
{
	char *url = r->text.p, *p = url, *q;

	if (*p != '/' && strcmp(p, "*") != 0) {
		p = strstr(p, "://");
		p = p ? strchr(p + 3, '/') : NULL;
	}
	if (!p)
		return refuse(r, 400, "the request's target is not a path");
	r->path = (uint32_t)(p - url);
	q = strchr(p, '?');
	r->query = q ? (uint32_t)(q + 1 - url) : (uint32_t)(p - url + (ptrdiff_t)strlen(p));
	if (q)
		*q = '\0';
	return 0;
}

/* http-parser as Debian builds it lets a blank into a header's name and still reads
 * "Content-Length : 3" as a length: a request that others read differently. */
static bool is_token(const char *s)
{
	for (; *s; s++)
		if (*s <= ' ' || *s == 127 || (*s & 0x80) || strchr("\"(),/:;<=>?@[\\]{}", *s))
			return false;
	return true;
}

/* Proxies and we must agree where a request ends, or one can be smuggled inside another. */
static int check_framing(struct http_request *r)
{
	unsigned n_te = 0, n_cl = 0, n_host = 0;

	for (uint32_t i = 0; i < r->n_headers; i++) {
		const char *name = r->text.p + r->header[i].name;
		const char *value = r->text.p + r->header[i].value;

		if (!*name || !is_token(name))
			return refuse(r, 400,
				      "a header's name has characters that do not belong there");
		if (!strcmp(name, "transfer-encoding")) {
			n_te++;
			if (strcasecmp(value, "chunked") != 0)
				return refuse(r, 501, "Transfer-Encoding other than chunked");
		}
		n_cl += !strcmp(name, "content-length");
		n_host += !strcmp(name, "host");
	}
	if (n_te > 1 || n_cl > 1 || (n_te && n_cl))
		return refuse(r, 400, "Content-Length and Transfer-Encoding contradict each other");
	if (n_te && r->parser.http_major == 1 && r->parser.http_minor == 0)
		return refuse(r, 400, "Transfer-Encoding in HTTP/1.0");
	if (n_host > 1 || (!n_host && r->parser.http_minor >= 1))
		return refuse(r, 400, "exactly one Host header is needed");
	return 0;
}

static bool has_body(const http_parser *p)
{
	return p->flags & F_CHUNKED || (p->content_length && p->content_length != UINT64_MAX);
}

static int on_headers(http_parser *p)
{
	struct http_request *r = of(p);
	const char *expect, *coding;

	if (end_text(r) < 0)
		return -1;
	settle_values(r);
	if (p->http_major != 1)
		return refuse(r, 505, "HTTP/1.1 is spoken here");
	if (check_framing(r) < 0 || split_url(r) < 0)
		return -1;
	if (p->content_length != UINT64_MAX && p->content_length > r->limits->max_body)
		return refuse(r, 413, "the request's body is too large");
	coding = http_request_header(r, "content-encoding");
	if (coding && *coding && strcasecmp(coding, "identity") != 0 && has_body(p))
		return refuse(r, 415, "a body with a Content-Encoding is not read here");
	expect = http_request_header(r, "expect");
	if (expect && strcasecmp(expect, "100-continue") != 0)
		return refuse(r, 417, "Expect other than 100-continue");
	r->expect_continue = expect && p->http_minor >= 1;	/* 1.0 knows no 100 */
	r->headers_done = true;
	return 0;
}

/* http-parser as Debian builds it takes any two bytes for the CRLF behind a chunk. */
static int check_chunk_end(struct http_request *r, const char *p)
{
	for (; r->chunk_end && p < r->fed_end; p++, r->chunk_end--)
		if (*p != (r->chunk_end == 2 ? '\r' : '\n'))
			return refuse(r, 400, "a chunk does not end where its length says");
	return 0;
}

static int on_chunk(http_parser *p)
{
	of(p)->chunk_left = p->content_length;
	return 0;
}

static int on_body(http_parser *p, const char *at, size_t n)
{
	struct http_request *r = of(p);

	if (p->flags & F_CHUNKED) {
		r->chunk_left -= n;
		r->chunk_end = r->chunk_left ? 0 : 2;
		if (check_chunk_end(r, at + n) < 0)
			return -1;
	}
	if (r->body.n + n > r->limits->max_body)
		return refuse(r, 413, "the request's body is too large");
	if (r->body.n + n > r->body_room)
		return refuse(r, 503, "too many large requests at the same time");
	return buf_put(&r->body, at, n) < 0 ? refuse(r, 503, "out of memory") : 0;
}

static int on_complete(http_parser *p)
{
	of(p)->complete = true;
	http_parser_pause(p, 1);	/* what follows is another request */
	return 0;
}

static const http_parser_settings settings = {
	.on_url = on_url,
	.on_header_field = on_field,
	.on_header_value = on_value,
	.on_headers_complete = on_headers,
	.on_chunk_header = on_chunk,
	.on_body = on_body,
	.on_message_complete = on_complete,
};

void http_request_init(struct http_request *r, const struct http_limits *l)
{
	memset(r, 0, sizeof(*r));
	r->limits = l;
	r->body_room = SIZE_MAX;
	http_parser_init(&r->parser, HTTP_REQUEST);
	r->parser.data = r;
}

void http_request_done(struct http_request *r)
{
	buf_done(&r->text);
	buf_done(&r->body);
}

static void refuse_parse(struct http_request *r)
{
	switch (HTTP_PARSER_ERRNO(&r->parser)) {
	case HPE_HEADER_OVERFLOW:
		refuse(r, 431, "request line and headers are too large");
		break;
	case HPE_UNEXPECTED_CONTENT_LENGTH:
		refuse(r, 400, "Content-Length and Transfer-Encoding contradict each other");
		break;
	case HPE_INVALID_VERSION:
		refuse(r, 505, "HTTP/1.1 is spoken here");
		break;
	default:
		refuse(r, 400, http_errno_description(HTTP_PARSER_ERRNO(&r->parser)));
	}
}

size_t http_request_feed(struct http_request *r, const char *p, size_t n)
{
	size_t used;

	if (r->complete || r->status)
		return 0;
	r->fed_end = p + n;
	if (check_chunk_end(r, p) < 0)
		return 0;
	used = http_parser_execute(&r->parser, &settings, p, n);
	if (r->complete || r->status)
		return used;
	if (HTTP_PARSER_ERRNO(&r->parser) != HPE_OK)
		refuse_parse(r);
	else if (r->parser.upgrade && used < n)
		refuse(r, 400, "no other protocol is spoken here");
	return used;
}

const char *http_request_header(const struct http_request *r, const char *name)
{
	for (uint32_t i = 0; i < r->n_headers; i++)
		if (!strcmp(r->text.p + r->header[i].name, name))
			return r->text.p + r->header[i].value;
	return NULL;
}

bool http_request_keep_alive(const struct http_request *r)
{
	return r->complete && !r->parser.upgrade && http_should_keep_alive(&r->parser);
}
