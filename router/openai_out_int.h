/* openai_out_int.h - what openai_out.c, openai_stream.c and openai_object.c share. */
#ifndef HEARTH_ROUTER_OPENAI_OUT_INT_H
#define HEARTH_ROUTER_OPENAI_OUT_INT_H

#include "router/openai_out.h"

#define PUT(b, literal) buf_put(b, literal, sizeof(literal) - 1)

/* openai_out.c: members that a chunk and an object have alike, appended to b. */
void oa_put_head(const struct oa_out *o, struct buf *b);	/* from "{" to "choices":[ */
void oa_put_text_member(struct buf *b, const char *name, const ProtobufCBinaryData *t);
void oa_put_reasoning(const struct oa_out *o, const ProtobufCBinaryData *t, struct buf *b);
void oa_put_usage(const struct oa_out *o, struct buf *b);
const char *oa_finish_name(const struct oa_choice *c);
/* Counts calls, and holds a worker to the order that clients rely on.  0 or -EPROTO. */
int oa_check_piece(struct oa_choice *c, const Hw__Piece *p);

/* openai_stream.c, openai_object.c: the two shapes of oa_out_delta(), _finish() and _end(). */
int oa_stream_delta(struct oa_out *o, struct oa_choice *c, const Hw__Delta *d, struct buf *out);
int oa_stream_finish(struct oa_out *o, uint32_t choice, const char *extra, struct buf *out);
int oa_stream_end(struct oa_out *o, struct buf *out);
int oa_collect_delta(struct oa_out *o, struct oa_choice *c, const Hw__Delta *d);
int oa_object_end(struct oa_out *o, const char *extra, struct buf *out);

#endif
