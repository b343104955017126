/* template.h - a model's chat template: from a conversation to the text of a prompt.
 *
 * The template is the model's own (chat_template.jinja, or chat_template in
 * tokenizer_config.json), interpreted as Hugging Face's apply_chat_template runs it in
 * Jinja2: the same text and the same messages (jinja/jinja.h says how).  The request is
 * an OpenAI chat request; request.h says what must be done to it before.
 *
 * A template is read-only once it is made: any number of threads may render from one.
 */
#ifndef HEARTH_WORKER_TEXT_TEMPLATE_H
#define HEARTH_WORKER_TEXT_TEMPLATE_H

#include <stdint.h>

#include "lib/buf.h"
#include "lib/err.h"
#include "lib/json.h"
#include "worker/text/span.h"

struct template;

/* What one render may take.  A step is an expression, a statement, or 64 bytes copied or
 * scanned; a long conversation takes some 100,000.  0 in any field: the default. */
struct template_limits {
	uint64_t steps;		/* 50,000,000, about a second */
	size_t output_bytes;	/* 64 MiB */
	size_t memory_bytes;	/* 1 GiB; about eight times the request and the prompt */
	int64_t now;		/* what strftime_now() sees, seconds since 1970; the clock */
};

struct rendered {
	struct buf text;
	/* The stretches of the text that came from the request: sorted, disjoint, not
	 * adjacent.  Only what lies outside of them may name a special token. */
	struct text_span *data;
	size_t n_data;
};

#define RENDERED_INIT ((struct rendered){ BUF_INIT, NULL, 0 })

void rendered_done(struct rendered *r);

/* Reads the template of a model's folder and the special tokens that templates may
 * print (bos_token and the like, from tokenizer_config.json).
 * -ENOENT: there is no template; -errno of reading; -EINVAL: what is wrong, and in
 * which line; -EFBIG, -E2BIG, -ENOMEM. */
int template_open(const char *model_dir, struct template **ret, struct err *e);
int template_parse(const char *text, size_t n, struct template **ret, struct err *e);
struct template *template_free(struct template *t);	/* NULL ok; returns NULL */

/* Makes a variable known to all renders, as text of the template.  Only before the
 * first of them.  -ENOMEM. */
int template_define(struct template *t, const char *name, const char *text);

/* Renders {messages, tools, documents, add_generation_prompt, chat_template_kwargs}; absent
 * tools and documents are None, absent add_generation_prompt is true, and each member
 * of chat_template_kwargs is a variable.  `limits` may be NULL; `ret` must be
 * initialised and is replaced.
 * -EINVAL: the template raised an error, or the request is not fit for it: e->text is the
 * message for the client; -E2BIG: a limit; -ENOMEM. */
int template_render(const struct template *t, const json_t *request,
		    const struct template_limits *limits, struct rendered *ret, struct err *e);

#endif
