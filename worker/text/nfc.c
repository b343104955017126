/* nfc.c - see nfc.h.
 *
 * The text is cut before every character that nfc_fill() left unmarked; such a
 * stretch is normalised alone (Unicode Standard, section 3.11): decompose,
 * order the marks by combining class, compose from left to right.  A stretch of
 * one character is already NFC and is copied.
 */
#include "worker/text/nfc.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "lib/utf8.h"
#include "worker/text/chars.h"
#include "worker/text/unicode_nfc.h"

#define N(a) (sizeof(a) / sizeof((a)[0]))

/* Hangul syllables compose by arithmetic: section 3.12. */
enum {
	S_BASE = 0xac00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11a7,
	L_COUNT = 19, V_COUNT = 21, T_COUNT = 28,
	S_COUNT = L_COUNT * V_COUNT * T_COUNT,
};

/* A character and its class, in one word so that they move together. */
struct mark {
	uint32_t cp : 24, ccc : 8;
};

struct run {
	struct mark *p;
	size_t n, cap;
};

static void run_done(struct run *r)
{
	free(r->p);
}

static uint8_t ccc_of(uint32_t cp)
{
	size_t lo = 0, hi = N(unicode_cccs);

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (cp > unicode_cccs[mid].to)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < N(unicode_cccs) && cp >= unicode_cccs[lo].from ? unicode_cccs[lo].ccc : 0;
}

static const struct unicode_split *split_of(uint32_t cp)
{
	size_t lo = 0, hi = N(unicode_splits);

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (unicode_splits[mid].cp < cp)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < N(unicode_splits) && unicode_splits[lo].cp == cp ? &unicode_splits[lo] : NULL;
}

/* 0 when a and b do not compose. */
static uint32_t join_hangul(uint32_t a, uint32_t b)
{
	if (a - L_BASE < L_COUNT && b - V_BASE < V_COUNT)
		return S_BASE + ((a - L_BASE) * V_COUNT + (b - V_BASE)) * T_COUNT;
	if (a - S_BASE < S_COUNT && (a - S_BASE) % T_COUNT == 0 && b > T_BASE &&
	    b - T_BASE < T_COUNT)
		return a + (b - T_BASE);
	return 0;
}

static uint32_t join(uint32_t a, uint32_t b)
{
	uint64_t want = (uint64_t)a << 32 | b;
	size_t lo = 0, hi = N(unicode_joins);

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (((uint64_t)unicode_joins[mid].a << 32 | unicode_joins[mid].b) < want)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < N(unicode_joins) && unicode_joins[lo].a == a && unicode_joins[lo].b == b)
		return unicode_joins[lo].cp;
	return join_hangul(a, b);
}

void nfc_fill(uint8_t *table)
{
	for (size_t i = 0; i < N(unicode_cccs); i++)
		for (uint32_t c = unicode_cccs[i].from; c <= unicode_cccs[i].to; c++)
			table[c] |= CHAR_NFC;
	for (size_t i = 0; i < N(unicode_joins); i++)
		table[unicode_joins[i].b] |= CHAR_NFC;
	for (uint32_t i = 0; i < V_COUNT; i++)
		table[V_BASE + i] |= CHAR_NFC;
	for (uint32_t i = 1; i < T_COUNT; i++)
		table[T_BASE + i] |= CHAR_NFC;
	for (size_t i = 0; i < N(unicode_splits); i++) {
		const struct unicode_split *s = &unicode_splits[i];

		if (!s->b || join(s->a, s->b) != s->cp)
			table[s->cp] |= CHAR_NFC;
	}
}

size_t nfc_quick(const uint8_t *table, const char *s, size_t n)
{
	size_t i = 0, start = 0, len;

	while (i < n) {
		uint64_t eight;

		/* Below U+0300 (first bytes below 0xCC) nothing is ever marked. */
		if ((unsigned char)s[i] < 0xcc) {
			if (n - i >= sizeof(eight)) {
				memcpy(&eight, s + i, sizeof(eight));
				if (!(eight & 0x8080808080808080u)) {
					start = i + 7;
					i += 8;
					continue;
				}
			}
			start = i;
			i += (unsigned char)s[i] < 0x80 ? 1 : 2;
			continue;
		}
		if (table[chars_get(s + i, &len)] & CHAR_NFC)
			return start;
		start = i;
		i += len;
	}
	return n;
}

static int run_push(struct run *r, uint32_t cp)
{
	if (r->n == r->cap) {
		size_t cap = r->cap ? 2 * r->cap : 64;
		struct mark *p = realloc(r->p, cap * sizeof(*p));

		if (!p)
			return -1;
		r->p = p;
		r->cap = cap;
	}
	r->p[r->n++] = (struct mark){ .cp = cp & 0xffffff, .ccc = ccc_of(cp) };
	return 0;
}

/* Full canonical decomposition; the first half may split again, the second never
 * does in the data, but nothing here depends on it. */
static int decompose(struct run *r, uint32_t cp)
{
	const struct unicode_split *s;
	uint32_t i = cp - S_BASE;

	if (i < S_COUNT) {
		if (run_push(r, L_BASE + i / (V_COUNT * T_COUNT)) < 0 ||
		    run_push(r, V_BASE + i / T_COUNT % V_COUNT) < 0)
			return -1;
		return i % T_COUNT ? run_push(r, T_BASE + i % T_COUNT) : 0;
	}
	s = split_of(cp);
	if (!s)
		return run_push(r, cp);
	if (decompose(r, s->a) < 0)
		return -1;
	return s->b ? decompose(r, s->b) : 0;
}

/* Stable, by class.  Runs are nearly always of one to three marks. */
static void order_short(struct mark *m, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		struct mark x = m[i];
		size_t k = i;

		for (; k > 0 && m[k - 1].ccc > x.ccc; k--)
			m[k] = m[k - 1];
		m[k] = x;
	}
}

static int order_long(struct mark *m, size_t n)
{
	CLEANUP(freep) struct mark *copy = malloc(n * sizeof(*copy));
	size_t at[257] = { 0 };

	if (!copy)
		return -1;
	memcpy(copy, m, n * sizeof(*copy));
	for (size_t i = 0; i < n; i++)
		at[m[i].ccc + 1]++;
	for (size_t c = 1; c < 257; c++)
		at[c] += at[c - 1];
	for (size_t i = 0; i < n; i++)
		m[at[copy[i].ccc]++] = copy[i];
	return 0;
}

static int order(struct run *r)
{
	for (size_t i = 0, end; i < r->n; i = end) {
		end = i + 1;
		if (!r->p[i].ccc)
			continue;
		while (end < r->n && r->p[end].ccc)
			end++;
		if (end - i <= 32)
			order_short(r->p + i, end - i);
		else if (order_long(r->p + i, end - i) < 0)
			return -1;
	}
	return 0;
}

/* In place.  A character joins the last starter unless one of its own or a higher
 * class (or, directly before it, another starter) stands between them. */
static void compose(struct run *r)
{
	size_t n = 0, starter = SIZE_MAX;

	for (size_t i = 0; i < r->n; i++) {
		struct mark x = r->p[i];
		bool blocked = starter == SIZE_MAX ||
			       (n - 1 > starter && r->p[n - 1].ccc >= x.ccc);
		uint32_t cp = blocked ? 0 : join(r->p[starter].cp, x.cp);

		if (cp) {
			r->p[starter].cp = cp & 0xffffff;
			continue;
		}
		if (!x.ccc)
			starter = n;
		r->p[n++] = x;
	}
	r->n = n;
}

static int put_stretch(struct run *r, const char *s, size_t n, struct buf *out)
{
	char u[4];

	r->n = 0;
	for (size_t i = 0, len; i < n; i += len)
		if (decompose(r, chars_get(s + i, &len)) < 0)
			return -ENOMEM;
	if (order(r) < 0)
		return -ENOMEM;
	compose(r);
	for (size_t i = 0; i < r->n; i++)
		buf_put(out, u, utf8_put(r->p[i].cp, u));
	return buf_ok(out) ? 0 : -ENOMEM;
}

/* From s: one character, and the marked ones after it. */
static size_t stretch(const uint8_t *table, const char *s, size_t n)
{
	size_t i, len;

	chars_get(s, &i);
	while (i < n && (table[chars_get(s + i, &len)] & CHAR_NFC))
		i += len;
	return i;
}

int nfc_put(const uint8_t *table, const char *s, size_t n, struct buf *out)
{
	CLEANUP(run_done) struct run r = { NULL, 0, 0 };
	int ret;

	if (buf_reserve(out, n) < 0)
		return -ENOMEM;
	while (n) {
		size_t clean = nfc_quick(table, s, n);

		buf_put(out, s, clean);
		s += clean;
		n -= clean;
		if (!n)
			break;
		clean = stretch(table, s, n);
		ret = put_stretch(&r, s, clean, out);
		if (ret < 0)
			return ret;
		s += clean;
		n -= clean;
	}
	return buf_ok(out) ? 0 : -ENOMEM;
}
