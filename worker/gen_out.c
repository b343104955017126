/* gen_out.c - see gen_out.h. */
#include "worker/gen_out.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void gen_out_done(struct gen_out *o)
{
	buf_done(&o->text);
	free(o->pieces);
	free(o->logprobs);
	ids_done(&o->tokens);
	*o = (struct gen_out){ 0 };
}

void gen_out_clear(struct gen_out *o)
{
	buf_clear(&o->text);
	o->n_pieces = 0;
	o->n_logprobs = 0;
	ids_clear(&o->tokens);
}

bool gen_out_empty(const struct gen_out *o)
{
	return !o->n_pieces && !o->tokens.n && !o->n_logprobs;
}

/* Room for one more of `size` bytes. */
static int grow(void **p, size_t *cap, size_t n, size_t size)
{
	size_t more = *cap ? 2 * *cap : 8;
	void *q;

	if (n < *cap)
		return 0;
	q = realloc(*p, more * size);
	if (!q)
		return -ENOMEM;
	*p = q;
	*cap = more;
	return 0;
}

static bool joins(const struct gen_piece *last, enum gen_channel c, uint32_t call)
{
	return last->channel == c && c != GEN_CALL_BEGIN &&
	       (c != GEN_CALL_ARGS || last->call == call);
}

int gen_out_text(struct gen_out *o, enum gen_channel c, uint32_t call, const char *call_id,
		 const char *p, size_t n)
{
	void *pieces = o->pieces;
	struct gen_piece *last = o->n_pieces ? &o->pieces[o->n_pieces - 1] : NULL;

	if (!last || !joins(last, c, call)) {
		if (grow(&pieces, &o->cap_pieces, o->n_pieces, sizeof(*o->pieces)) < 0)
			return -ENOMEM;
		o->pieces = pieces;
		last = &o->pieces[o->n_pieces];
		*last = (struct gen_piece){ .channel = c, .from = o->text.n, .call = call };
		if (call_id)
			memccpy(last->call_id, call_id, '\0', sizeof(last->call_id) - 1);
		o->n_pieces++;
	}
	if (buf_put(&o->text, p, n) < 0)
		return -ENOMEM;
	last->n += n;
	return 0;
}

int gen_out_token(struct gen_out *o, uint32_t id)
{
	return ids_push(&o->tokens, id);
}

int gen_out_logprob(struct gen_out *o, const struct gen_logprob *l)
{
	void *p = o->logprobs;

	if (grow(&p, &o->cap_logprobs, o->n_logprobs, sizeof(*o->logprobs)) < 0)
		return -ENOMEM;
	o->logprobs = p;
	o->logprobs[o->n_logprobs++] = *l;
	return 0;
}
