/* chars.c - see chars.h. */
#include "worker/text/jinja/chars.h"

#include <stdio.h>

#include "lib/json.h"
#include "lib/own.h"
#include "worker/text/jinja/case_table.h"

#define N(table) (sizeof(table) / sizeof(*(table)))

static bool in_ranges(uint32_t c, const struct char_range *t, size_t n)
{
	size_t lo = 0;

	while (lo < n) {
		size_t mid = lo + (n - lo) / 2;

		if (c > t[mid].last)
			lo = mid + 1;
		else if (c < t[mid].first)
			n = mid;
		else
			return true;
	}
	return false;
}

bool char_is(uint32_t c, enum char_class class)
{
	switch (class) {
	case CHAR_PRINTABLE:
		return (c >= 0x20 && c < 0x7f) ||
		       in_ranges(c, printable_ranges, N(printable_ranges));
	case CHAR_UPPER:
		return in_ranges(c, uppercase_ranges, N(uppercase_ranges));
	case CHAR_LOWER:
		return in_ranges(c, lowercase_ranges, N(lowercase_ranges));
	case CHAR_LETTER:
		return in_ranges(c, letter_ranges, N(letter_ranges));
	case CHAR_DECIMAL:
		return in_ranges(c, decimal_ranges, N(decimal_ranges));
	case CHAR_DIGIT:
		return in_ranges(c, digit_ranges, N(digit_ranges));
	case CHAR_NUMERIC:
		return in_ranges(c, numeric_ranges, N(numeric_ranges));
	}
	return false;
}

struct case_map {
	const struct case_run *runs;
	const struct case_special *specials;
	size_t n_runs, n_specials;
};

#define CASE_MAP(name) { name##_runs, name##_specials, N(name##_runs), N(name##_specials) }
static const struct case_map upper = CASE_MAP(upper), lower = CASE_MAP(lower),
			     title = CASE_MAP(title);

static uint32_t map_one(const struct case_map *m, uint32_t c)
{
	size_t lo = 0, hi = m->n_runs;

	/* Runs of stride 2 may enclose one another's gaps: look back a little. */
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (m->runs[mid].first <= c)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (size_t back = 0; back < 3 && lo > back; back++) {
		const struct case_run *r = &m->runs[lo - 1 - back];

		if (c >= r->first && c <= r->last && (c - r->first) % (uint32_t)r->stride == 0)
			return c + (uint32_t)r->delta;
	}
	return c;
}

static void map_char(struct str_out *o, const struct case_map *m, uint32_t c, enum mark mark)
{
	for (size_t i = 0; c >= 0x80 && i < m->n_specials; i++) {
		if (m->specials[i].from != c)
			continue;
		for (size_t k = 0; k < 3 && m->specials[i].to[k]; k++)
			str_out_char(o, m->specials[i].to[k], mark);
		return;
	}
	str_out_char(o, map_one(m, c), mark);
}

static bool is_cased(uint32_t c)
{
	return char_is(c, CHAR_UPPER) || char_is(c, CHAR_LOWER) || map_one(&lower, c) != c;
}

/* What may stand between a final sigma and its word's letters (case-ignorable;
 * the marks and the punctuation that occurs). */
static bool is_ignorable(uint32_t c)
{
	return c == '\'' || c == '.' || c == ':' || c == '^' || c == '`' || c == 0xad ||
	       c == 0xb7 || c == 0x2019 || (c >= 0x300 && c <= 0x36f) ||
	       (c >= 0x200b && c <= 0x200f);
}

/* Greek capital sigma at byte i becomes a final one after a letter and before none. */
static uint32_t lower_sigma(const char *p, size_t n, size_t i)
{
	bool before = false;
	uint32_t c;
	size_t k = i;

	while (k > 0) {
		do
			k--;
		while (((unsigned char)p[k] & 0xc0) == 0x80);
		char_get(p + k, &c);
		before = is_cased(c);
		if (!is_ignorable(c))
			break;
	}
	if (!before)
		return 0x3c3;
	for (k = i + 2; k < n; k += char_len(p[k])) {
		char_get(p + k, &c);
		if (is_ignorable(c))
			continue;
		return is_cased(c) ? 0x3c3 : 0x3c2;
	}
	return 0x3c2;
}

/* How str.capitalize() and its kin choose for each character. */
enum word {
	WORD_UPPER,
	WORD_LOWER,
	WORD_CAPITAL,	/* the first one title, the rest lower */
	WORD_TITLE,	/* the same for each run of letters */
	WORD_SWAP,
};

static const struct case_map *choose(enum word how, bool first, bool in_word, uint32_t c)
{
	switch (how) {
	case WORD_UPPER:
		return &upper;
	case WORD_LOWER:
		return &lower;
	case WORD_CAPITAL:
		return first ? &title : &lower;
	case WORD_TITLE:
		return in_word ? &lower : &title;
	case WORD_SWAP:
		return char_is(c, CHAR_UPPER) ? &lower : char_is(c, CHAR_LOWER) ? &upper : &title;
	}
	return &lower;
}

static struct str *convert(struct jinja *j, struct str *s, enum word how)
{
	const char *p = str_bytes(j, s);
	struct str_out o = STR_OUT(j);
	bool in_word = false;
	struct str *r;
	uint32_t c;

	for (size_t i = 0, n; i < s->n; i += n) {
		enum mark mark = s->marks ? (enum mark)s->marks[i] : s->mark;
		const struct case_map *m;

		n = char_get(p + i, &c);
		m = choose(how, i == 0, in_word, c);
		if (c == 0x3a3 && m == &lower)
			str_out_char(&o, lower_sigma(p, s->n, i), mark);
		else if (how == WORD_SWAP && m == &title)
			str_out_char(&o, c, mark);
		else
			map_char(&o, m, c, mark);
		if (how == WORD_TITLE)
			in_word = is_cased(c);
	}
	r = str_out_done(&o);
	r->safe = s->safe;
	return r;
}

struct str *str_upper(struct jinja *j, struct str *s)
{
	return convert(j, s, WORD_UPPER);
}

struct str *str_lower(struct jinja *j, struct str *s)
{
	return convert(j, s, WORD_LOWER);
}

struct str *str_capitalize(struct jinja *j, struct str *s)
{
	return convert(j, s, WORD_CAPITAL);
}

struct str *str_title(struct jinja *j, struct str *s)
{
	return convert(j, s, WORD_TITLE);
}

struct str *str_swapcase(struct jinja *j, struct str *s)
{
	return convert(j, s, WORD_SWAP);
}

const char *float_text(struct float_text *t, double x)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;

	jx_put_pyfloat(&b, x);
	snprintf(t->text, sizeof(t->text), "%s", b.p ? b.p : "");
	return t->text;
}
