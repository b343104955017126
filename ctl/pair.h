/* pair.h - what the two sides of hearthctl pair share: the invitation that goes from one to the
 * other.
 *
 * It is one word of letters and digits: "hearth1" and, in hexadecimal, NAME, ENDPOINT, the router's
 * public key and the box's secret one with blanks between.  It is as secret as the key in it.
 */
#ifndef HEARTH_CTL_PAIR_H
#define HEARTH_CTL_PAIR_H

#include <stdbool.h>

#include "lib/buf.h"
#include "lib/err.h"
#include "proto/link.h"

struct pair {
	char name[65], endpoint[257];
	char server[LINK_KEY], secret[LINK_KEY];
	char own[LINK_KEY];		/* of the box; follows from its secret */
};

enum { PAIR_MAX_WORD = 2048 };

int pair_put(const struct pair *p, struct buf *out);
int pair_parse(const char *word, struct pair *ret, struct err *e);
bool pair_name_ok(const char *s);

#endif
