/* top.h - a frame of hearthctl top: lines with a meaning, for a screen or for plain output. */
#ifndef HEARTH_CTL_TOP_H
#define HEARTH_CTL_TOP_H

#include "ctl/ctl.h"

enum top_style { TOP_PLAIN, TOP_HEAD, TOP_COLUMNS, TOP_GOOD, TOP_WARN, TOP_BAD };

struct top_line {
	enum top_style style;
	size_t at, n;			/* in text */
};

struct top_frame {
	struct buf text;
	struct top_line *lines;
	size_t n_lines;
};

/* What the router says now, as lines of any width without control characters.  ret is zeroed or was
 * filled before.  < 0: e says why, and the frame is a line that says so too. */
int top_frame_fill(const struct ctl *c, struct top_frame *ret, struct err *e);
void top_frame_done(struct top_frame *f);

/* Frames until a person has enough (q).  Needs a terminal. */
int top_screen(const struct ctl *c, struct err *e);

#endif
