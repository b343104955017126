/* str.h - strings that know which of their bytes came from the request.
 *
 * A message may say <|im_start|>; only the template may mean it.  So each byte of
 * each string carries a mark, DATA or TEMPLATE, through every operation, and the
 * tokenizer is told at the end which stretches are data.  Most strings are of one
 * kind and store no marks at all.
 *
 * Always true: the bytes are valid UTF-8; a str never changes once it is made, but for
 * two things that are worked out when first wanted: its number of characters, and
 * the copying together of a sum (so that s = s + x in a loop costs no copy each).
 * The strings of a parsed template are complete from the start, so that threads may
 * share them.  Positions are bytes; only str_slice and the n_chars speak of characters.
 */
#ifndef HEARTH_WORKER_TEXT_JINJA_STR_H
#define HEARTH_WORKER_TEXT_JINJA_STR_H

#include "worker/text/jinja/jinja.h"

enum mark {
	TEMPLATE = 0,
	DATA = 1,
};

#define STR_UNCOUNTED SIZE_MAX
#define STR_NONE      SIZE_MAX	/* not found */

struct str {
	const char *p;		/* NULL: left + right, not copied together yet */
	size_t n;		/* bytes */
	size_t n_chars;		/* or STR_UNCOUNTED */
	const uint8_t *marks;	/* one a byte; NULL: all are `mark` */
	enum mark mark;
	bool safe;		/* markupsafe.Markup: "+" escapes what is added */
	struct str *left, *right;
};

/* A string over bytes that live long enough. */
struct str *str_new(struct jinja *j, const char *p, size_t n, enum mark mark);
struct str *str_from(struct jinja *j, const char *terminated, enum mark mark);
struct str *str_printf(struct jinja *j, enum mark mark, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
#define str_empty(j) str_new((j), "", 0, TEMPLATE)

const char *str_bytes(struct jinja *j, struct str *s);	/* joined now, not terminated */
size_t str_n_chars(struct jinja *j, struct str *s);
/* Any byte of it is data. */
bool str_has_data(struct jinja *j, struct str *s);

struct str *str_cut(struct jinja *j, struct str *s, size_t from, size_t to);
struct str *str_add(struct jinja *j, struct str *a, struct str *b);
/* Characters from, from + step, ... (n of them), each within the string. */
struct str *str_slice(struct jinja *j, struct str *s, int64_t from, int64_t step, int64_t n);
bool str_eq(struct jinja *j, struct str *a, struct str *b);
bool str_is(struct jinja *j, struct str *a, const char *b);
int str_cmp(struct jinja *j, struct str *a, struct str *b);	/* by code points */
bool str_has_prefix(struct jinja *j, struct str *s, struct str *prefix);
bool str_has_suffix(struct jinja *j, struct str *s, struct str *suffix);
/* The first (last) place at or after `from` (that ends at or before `to`); STR_NONE. */
size_t str_find(struct jinja *j, struct str *s, struct str *what, size_t from);
size_t str_rfind(struct jinja *j, struct str *s, struct str *what, size_t to);
/* At most `max` replacements, all when negative. */
struct str *str_replace(struct jinja *j, struct str *s, struct str *old, struct str *by,
			int64_t max);
enum {
	STR_LEFT = 1,
	STR_RIGHT = 2,
};
/* Without the characters of `chars` (NULL: white space) at the given ends. */
struct str *str_strip(struct jinja *j, struct str *s, struct str *chars, int ends);
/* The same text, marked safe or not. */
struct str *str_as_safe(struct jinja *j, struct str *s, bool safe);
struct str *str_escape(struct jinja *j, struct str *s);		/* for HTML */

/* White space as str.isspace() sees it. */
bool char_is_space(uint32_t c);
/* The character at p, of valid UTF-8; its bytes. */
size_t char_get(const char *p, uint32_t *ret_c);
static inline size_t char_len(char c)
{
	unsigned char u = (unsigned char)c;

	return u < 0x80 ? 1 : u < 0xe0 ? 2 : u < 0xf0 ? 3 : 4;
}

/* A string while it grows. */
struct str_out {
	struct jinja *j;
	char *p;
	uint8_t *marks;
	size_t n, cap, limit;	/* limit 0: none but the memory */
	bool has[2];		/* bytes of that mark */
	struct str *only;	/* all of it so far, not copied yet */
};

#define STR_OUT(j_) ((struct str_out){ .j = (j_) })

void str_out_put(struct str_out *o, const char *p, size_t n, enum mark mark);
void str_out_puts(struct str_out *o, const char *terminated, enum mark mark);
void str_out_char(struct str_out *o, uint32_t c, enum mark mark);
void str_out_str(struct str_out *o, struct str *s);
struct str *str_out_done(struct str_out *o);

#endif
