/* stop_match.c - see stop_match.h. */
#include "worker/stop_match.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/utf8.h"

struct pattern {
	char *p;	/* owned */
	size_t n;
	size_t *fail;	/* fail[k]: the longest proper border of the first k bytes */
	size_t at;	/* bytes matched so far, < n */
};

struct stop_match {
	struct pattern *patterns;
	size_t n_patterns;
	struct buf held;	/* as long as the longest `at` */
	bool stopped;
};

static int pattern_init(struct pattern *p, const struct stop_string *s)
{
	size_t k = 0;

	p->p = malloc(s->n);
	p->fail = calloc(s->n + 1, sizeof(*p->fail));
	if (!p->p || !p->fail)
		return -ENOMEM;
	memcpy(p->p, s->p, s->n);
	p->n = s->n;
	for (size_t i = 1; i < s->n; i++) {
		while (k && s->p[i] != s->p[k])
			k = p->fail[k];
		k += s->p[i] == s->p[k];
		p->fail[i + 1] = k;
	}
	return 0;
}

static bool strings_ok(const struct stop_string *s, size_t n)
{
	if (n > STOP_MAX_STRINGS)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!s[i].n || s[i].n > STOP_MAX_BYTES || !utf8_ok(s[i].p, s[i].n))
			return false;
	return true;
}

int stop_match_new(const struct stop_string *strings, size_t n, struct stop_match **ret)
{
	struct stop_match *m;

	if (!strings_ok(strings, n))
		return -EINVAL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->patterns = calloc(n ? n : 1, sizeof(*m->patterns));
	if (!m->patterns) {
		stop_match_free(m);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		m->n_patterns++;
		if (pattern_init(&m->patterns[i], &strings[i]) < 0) {
			stop_match_free(m);
			return -ENOMEM;
		}
	}
	*ret = m;
	return 0;
}

struct stop_match *stop_match_free(struct stop_match *m)
{
	if (!m)
		return NULL;
	for (size_t i = 0; i < m->n_patterns; i++) {
		free(m->patterns[i].p);
		free(m->patterns[i].fail);
	}
	free(m->patterns);
	buf_done(&m->held);
	free(m);
	return NULL;
}

/* True: the pattern ends with this byte. */
static bool pattern_feed(struct pattern *p, char c)
{
	while (p->at && p->p[p->at] != c)
		p->at = p->fail[p->at];
	p->at += p->p[p->at] == c;
	if (p->at < p->n)
		return false;
	p->at = p->fail[p->at];
	return true;
}

/* Feeds one byte to all: how many of the last bytes may be a match (*ret_open) or are one
 * (the answer; 0: none). */
static size_t feed(struct stop_match *m, char c, size_t *ret_open)
{
	size_t longest = 0, open = 0;

	for (size_t i = 0; i < m->n_patterns; i++) {
		struct pattern *p = &m->patterns[i];

		if (pattern_feed(p, c) && p->n > longest)
			longest = p->n;
		if (p->at > open)
			open = p->at;
	}
	*ret_open = open;
	return longest;
}

/* Moves all but the last `keep` bytes of held to out. */
static int release(struct stop_match *m, size_t keep, struct buf *out)
{
	size_t n = m->held.n - keep;

	if (n && buf_put(out, m->held.p, n) < 0)
		return -ENOMEM;
	buf_shift(&m->held, n);
	return 0;
}

int stop_match_push(struct stop_match *m, const char *text, size_t n, struct buf *out)
{
	size_t open = 0;

	if (m->stopped)
		return 1;
	if (!m->n_patterns)
		return n ? buf_put(out, text, n) : 0;
	for (size_t i = 0; i < n; i++) {
		size_t match = feed(m, text[i], &open);

		if (buf_putc(&m->held, text[i]) < 0)
			return -ENOMEM;
		if (match) {
			m->stopped = true;
			return release(m, match, out) < 0 ? -ENOMEM : 1;
		}
	}
	/* a piece is released at once, not byte by byte: shifting would be quadratic */
	return n ? release(m, open, out) : 0;
}

int stop_match_finish(struct stop_match *m, struct buf *out)
{
	return m->stopped ? 0 : release(m, 0, out);
}

size_t stop_match_held(const struct stop_match *m)
{
	return m->held.n;
}
