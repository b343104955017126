/* http_answer.h - reads one HTTP/1.1 answer at a time out of a stream of bytes, and counts.
 *
 * For a load generator: what the answer says is not kept.  Trusts the server to send
 * Content-Length or chunks; anything else is -EPROTO.
 */
#ifndef HEARTH_BENCH_HTTP_ANSWER_H
#define HEARTH_BENCH_HTTP_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_answer {
	enum { ANSWER_HEAD, ANSWER_BODY, ANSWER_CHUNK_SIZE, ANSWER_CHUNK, ANSWER_CHUNK_END,
	       ANSWER_OVER } state;
	char line[512];			/* of the head or of a chunk's size; cut when longer */
	size_t n_line;
	int status;
	bool chunked, last_chunk;
	uint64_t left;			/* of the body or of the chunk */
	/* counted over the body */
	uint64_t n_body, n_events, n_tokens;
	uint32_t at_event, at_tokens;	/* how much of the text searched for was just seen */
	bool in_number;
	uint64_t number;
};

void http_answer_init(struct http_answer *a);
/* Takes bytes up to the answer's end; *ret_used of them.  0 (state says whether it is
 * over), -EPROTO. */
int http_answer_feed(struct http_answer *a, const char *p, size_t n, size_t *ret_used);

#endif
