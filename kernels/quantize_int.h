/* quantize_int.h - what the source (quantize.c) and its stream (quantize_stream.c) share. */
#ifndef HEARTH_KERNELS_QUANTIZE_INT_H
#define HEARTH_KERNELS_QUANTIZE_INT_H

#include "kernels/quantize.h"

struct quantized {
	struct weight_source source;
	const struct weight_source *inner;
	enum quantize what;
	struct quantize_facts facts;
};

/* Whether w, as the inner source has it, is converted. */
bool quantized_takes(const struct quantized *q, enum weight_slot slot, const struct weight_ref *w);
/* What becomes of it, without its bytes. */
struct weight_ref quantized_ref(const struct weight_ref *w);

/* The source's `stream`. */
int quantized_open(void *ctx, const struct weight_piece *pieces, size_t n,
		   const struct weight_room *room, struct weight_stream **ret, struct err *e);

#endif
