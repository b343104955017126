/* py_literal.h - reads what Python would print for a list, tuple or dict.
 *
 * Models write {'a': True} where JSON was asked for.  Understood are dicts whose keys are
 * strings, lists and tuples (arrays), strings in single or double quotes with Python's
 * escapes, numbers as JSON writes them, True, False, None, and a trailing comma; nothing
 * else of Python: no sets, bytes, prefixes, triple quotes, joined strings, calls, comments
 * or other names.
 *
 * Of duplicate keys the last value holds, at the first one's place.
 */
#ifndef HEARTH_WORKER_TEXT_PY_LITERAL_H
#define HEARTH_WORKER_TEXT_PY_LITERAL_H

#include "lib/json.h"

/* The value of all n bytes, white space around it allowed; owned by the caller.
 * -EINVAL: not such a literal, or what JSON cannot hold (half a surrogate pair), or nested
 * deeper than Python reads (200), or memory ran out. */
int py_literal_load(const char *s, size_t n, json_t **ret_v);

#endif
