/* prompt.h - what a request asks, as token ids, and the form of its answer.
 *
 * Three ways in: a chat body (normalised, rendered by the model's own template, encoded so
 * that no text of a message becomes a control token), a plain text, or ids.
 */
#ifndef HEARTH_WORKER_PROMPT_H
#define HEARTH_WORKER_PROMPT_H

#include "lib/json.h"
#include "worker/text/ids.h"
#include "worker/text/out_parser.h"
#include "worker/text_model.h"

struct prompt {
	struct ids ids;
	bool chat;			/* the answer is parsed, as `parse` says */
	struct out_options parse;	/* its pointers belong to `body` */
	json_t *body;			/* owned; NULL unless chat */
	struct buf note;		/* what was changed on the way; empty: nothing */
};

void prompt_done(struct prompt *p);
static inline void prompt_donep(struct prompt *p)
{
	prompt_done(p);
}

/* Each: 0; -EINVAL: the request's fault, *ret_param (maybe NULL) names the field; -ENOTSUP:
 * this worker cannot do it; -ENOMEM.  *ret is untouched on failure. */
int prompt_from_chat(const struct text_model *m, const char *body, size_t n, struct prompt *ret,
		     const char **ret_param, struct err *e);
int prompt_from_text(const struct text_model *m, const char *text, size_t n, struct prompt *ret,
		     const char **ret_param, struct err *e);
int prompt_from_ids(const struct text_model *m, const uint32_t *ids, size_t n,
		    struct prompt *ret, const char **ret_param, struct err *e);

#endif
