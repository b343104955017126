/* err.h - the reason for a failure, for a person to read.
 *
 * The return code decides, the text informs: a function that can fail for a
 * reason a person must see (a config line, a broken model file) takes a last
 * argument `struct err *e`.  NULL is allowed and means "the code is enough".
 *
 *	return err_set(e, -EINVAL, "%s:%d: unknown key '%s'", file, line, key);
 *
 * The text is one line, without a final newline, and names the thing that
 * failed, the value and the limit.  The caller logs it once or sends it on.
 */
#ifndef HEARTH_LIB_ERR_H
#define HEARTH_LIB_ERR_H

#include <errno.h>

struct err {
	int code;		/* negative errno; 0 while nothing failed */
	char text[512];		/* always terminated; cut with "..." when too long */
};

/* Writes the text and answers `code`, so that it can be returned in one line. */
int err_set(struct err *e, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the text there is; answers `code`. */
int err_prefix(struct err *e, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
