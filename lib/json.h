/* json.h - JSON whose numbers keep their spelling; the one door to jansson.
 *
 * A request passes through us on its way to a chat template: an integer of 30
 * digits, 1e2, 1.10 or U+0000 in a tool schema must come out as Python's json
 * would print it.  jansson (2.14) turns numbers into int64 or double and so
 * loses or refuses them.  Hence: before jansson parses a text, every number in
 * it is rewritten as a string that begins with U+0001, and a string value that
 * really begins with U+0001 gets a second one.  Afterwards
 *
 *	objects, arrays, true, false, null	use jansson's own calls;
 *	strings and numbers			use jx_* below, never json_string_value()
 *						or json_integer_value().
 *
 * Object keys are not touched.  Parsing is strict (RFC 8259, UTF-8 checked, a
 * lone surrogate is refused, of duplicate keys the last value holds at the first
 * one's place); U+0000 is allowed in values, not in keys.
 * Depth is limited to 2048 by jansson.  Values are reference counted and not
 * thread-safe.
 */
#ifndef HEARTH_LIB_JSON_H
#define HEARTH_LIB_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/err.h"

/* Any JSON value at the top.  0; -EINVAL (not JSON; the text says where);
 * -ENOMEM.  *ret_v is owned by the caller: json_decref(). */
int jx_load(const char *text, size_t n, json_t **ret_v, struct err *e);
/* The same for a whole file of at most `max` bytes (-EFBIG); codes of file.h. */
int jx_load_file(const char *path, size_t max, json_t **ret_v, struct err *e);

bool jx_is_str(const json_t *v);	/* false for NULL */
bool jx_is_num(const json_t *v);	/* false for NULL */
bool jx_is_int(const json_t *v);	/* a number written without '.', 'e', 'E' */

/* Bytes of a string (not its tag); *ret_n may be NULL.  NULL when not a string.
 * Borrowed from v; terminated, but may hold U+0000. */
const char *jx_str(const json_t *v, size_t *ret_n);
/* The spelling of a number as it stood in the text.  NULL when not a number. */
const char *jx_num(const json_t *v);
/* -EINVAL: not a number (or, for int64, not an integer); -ERANGE: does not fit. */
int jx_double(const json_t *v, double *ret_x);
int jx_int64(const json_t *v, int64_t *ret_x);

/* New values; NULL when memory runs out or s is not UTF-8.  `spelling` must be a
 * JSON number. */
json_t *jx_str_new(const char *s, size_t n);
json_t *jx_num_new(const char *spelling);
json_t *jx_int_new(int64_t x);

/* Whether [s, s+n) is a number as JSON writes it. */
bool jx_number_ok(const char *s, size_t n);

enum jx_style {
	JX_COMPACT,	/* {"a":1}, numbers as they were spelt */
	JX_SPACED,	/* {"a": 1}, numbers as they were spelt */
	JX_PYTHON,	/* as json.dumps(x, ensure_ascii=False): {"a": 1}; a number is
			 * printed as Python would after reading it: 1e2 is 100.0 */
};

/* Appends v as text.  0 or -ENOMEM. */
int jx_put(struct buf *b, const json_t *v, enum jx_style style);
/* Appends a JSON string literal with its quotes; what is not UTF-8 becomes U+FFFD. */
int jx_put_str(struct buf *b, const char *s, size_t n);
/* Appends repr(x) of Python: the shortest digits that read back as x. */
int jx_put_pyfloat(struct buf *b, double x);

static inline void json_decrefp_(json_t **v)
{
	json_decref(*v);
}
#define JX_OWNED CLEANUP(json_decrefp_)

#endif
