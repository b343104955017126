/* http_answer.c - see http_answer.h. */
#include "bench/http_answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char tokens_key[] = "\"completion_tokens\":";

void http_answer_init(struct http_answer *a)
{
	memset(a, 0, sizeof(*a));
}

/* Bodies come in pieces, so the two texts are looked for a byte at a time; usage objects
 * may come more than once in a stream, the last one holds. */
static void count(struct http_answer *a, const char *p, size_t n)
{
	a->n_body += n;
	for (size_t i = 0; i < n; i++) {
		a->at_event = p[i] == '\n' ? a->at_event + 1 : 0;
		if (a->at_event == 2) {
			a->n_events++;
			a->at_event = 0;
		}
		if (a->in_number && p[i] >= '0' && p[i] <= '9') {
			a->number = a->number * 10 + (uint64_t)(p[i] - '0');
			continue;
		}
		if (a->in_number) {
			a->n_tokens = a->number;
			a->in_number = false;
		}
		a->at_tokens = p[i] == tokens_key[a->at_tokens] ? a->at_tokens + 1 :
			       p[i] == '"' ? 1 : 0;
		if (a->at_tokens == sizeof(tokens_key) - 1) {
			a->at_tokens = 0;
			a->number = 0;
			a->in_number = true;
		}
	}
}

/* Collects up to and with '\n'; true when the line is whole (without its end). */
static bool take_line(struct http_answer *a, const char *p, size_t n, size_t *used)
{
	while (*used < n) {
		char c = p[(*used)++];

		if (c == '\n') {
			if (a->n_line && a->line[a->n_line - 1] == '\r')
				a->n_line--;
			a->line[a->n_line] = '\0';
			return true;
		}
		if (a->n_line < sizeof(a->line) - 1)
			a->line[a->n_line++] = c;
	}
	return false;
}

static int head_over(struct http_answer *a)
{
	if (!a->status)
		return -EPROTO;
	if (a->status == 100) {		/* an interim answer: the real one follows */
		a->status = 0;
		return 0;
	}
	if (a->chunked)
		a->state = ANSWER_CHUNK_SIZE;
	else
		a->state = a->left ? ANSWER_BODY : ANSWER_OVER;
	return 0;
}

static int head_line(struct http_answer *a)
{
	const char *s = a->line;

	if (!*s)
		return head_over(a);
	if (!a->status) {
		if (strncmp(s, "HTTP/1.", 7) != 0 || strlen(s) < 12)
			return -EPROTO;
		a->status = atoi(s + 9);
		return a->status >= 100 ? 0 : -EPROTO;
	}
	if (!strncasecmp(s, "content-length:", 15))
		a->left = strtoull(s + 15, NULL, 10);
	else if (!strncasecmp(s, "transfer-encoding:", 18))
		a->chunked = strcasestr(s, "chunked") != NULL;
	return 0;
}

static int line_over(struct http_answer *a)
{
	char *end;
	int r = 0;

	if (a->state == ANSWER_HEAD) {
		r = head_line(a);
	} else if (a->state == ANSWER_CHUNK_END) {
		a->state = a->last_chunk ? ANSWER_OVER : ANSWER_CHUNK_SIZE;
	} else {
		a->left = strtoull(a->line, &end, 16);
		if (end == a->line)
			return -EPROTO;
		a->last_chunk = !a->left;
		a->state = a->left ? ANSWER_CHUNK : ANSWER_CHUNK_END;
	}
	a->n_line = 0;
	return r;
}

int http_answer_feed(struct http_answer *a, const char *p, size_t n, size_t *ret_used)
{
	size_t used = 0;
	int r = 0;

	while (r == 0 && used < n && a->state != ANSWER_OVER) {
		if (a->state == ANSWER_BODY || a->state == ANSWER_CHUNK) {
			size_t part = n - used < a->left ? n - used : (size_t)a->left;

			count(a, p + used, part);
			used += part;
			a->left -= part;
			if (!a->left)
				a->state = a->state == ANSWER_BODY ? ANSWER_OVER : ANSWER_CHUNK_END;
		} else if (take_line(a, p, n, &used)) {
			r = line_over(a);
		}
	}
	if (a->state == ANSWER_OVER && a->in_number)
		a->n_tokens = a->number;
	*ret_used = used;
	return r;
}
