/* jinja.h - what parsing and rendering have in common: memory, a budget of work,
 * and the way out when something is wrong.
 *
 * The interpreter is a reading of Jinja2 3.1 as Hugging Face runs chat templates
 * (immutable sandbox, trim_blocks, lstrip_blocks, loop controls, no autoescape).
 * A template's expression can fail in any of a few hundred places, each of them deep
 * inside nested evaluation.  So, as in Lua, an error is raised: jinja_raise() writes
 * the reason and jumps to the one catch in template.c.  Two rules make that sound:
 * all memory comes from the arena, and nothing on the way holds anything else (no
 * struct buf, no file, no reference of jansson's).
 *
 * Files in reading order: str, value, lex, node, parse, eval, exec; then filter_*,
 * test, method, global, number, format, json.
 */
#ifndef HEARTH_WORKER_TEXT_JINJA_JINJA_H
#define HEARTH_WORKER_TEXT_JINJA_JINJA_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"
#include "worker/text/jinja/arena.h"

struct jinja {
	struct arena mem;
	uint64_t steps, max_steps;
	unsigned depth;			/* of C calls that a template or a value can nest */
	jmp_buf out;
	int code;			/* of what was raised: -EINVAL, -E2BIG, -ENOMEM */
	struct err *e;			/* may be NULL */
};

/* Evaluation, printing and comparison nest at most so deep. */
#define JINJA_MAX_DEPTH 1200

_Noreturn void jinja_raise(struct jinja *j, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same with -EINVAL, what nearly every error of a template is. */
#define jinja_fail(j, ...) jinja_raise(j, -EINVAL, __VA_ARGS__)

/* Zeroed; raises -E2BIG at the limit, -ENOMEM. */
void *jinja_alloc(struct jinja *j, size_t n, size_t size);
/* A copy of `have` elements with room for `want`. */
void *jinja_grow(struct jinja *j, const void *p, size_t have, size_t want, size_t size);

/* Counts one step and what copying or scanning `bytes` costs; raises -E2BIG. */
void jinja_work(struct jinja *j, size_t bytes);
void jinja_enter(struct jinja *j);	/* raises -E2BIG when nested too deeply */
static inline void jinja_leave(struct jinja *j)
{
	j->depth--;
}

#endif
