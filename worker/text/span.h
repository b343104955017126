/* span.h - a stretch [from, to) of a text, in bytes. */
#ifndef HEARTH_WORKER_TEXT_SPAN_H
#define HEARTH_WORKER_TEXT_SPAN_H

#include <stddef.h>

struct text_span {
	size_t from, to;
};

#endif
