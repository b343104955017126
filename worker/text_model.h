/* text_model.h - the text side of a model folder: tokenizer, chat template, generation
 * defaults.
 *
 * Opened once; never changes after that.
 */
#ifndef HEARTH_WORKER_TEXT_MODEL_H
#define HEARTH_WORKER_TEXT_MODEL_H

#include "worker/gen_config.h"
#include "worker/text/template.h"
#include "worker/text/tokenizer.h"

struct text_model {
	struct tokenizer *tokenizer;
	struct template *chat;	/* NULL: the folder has none; no chat, only completions */
	struct gen_config gen;
};

/* What the parts answer: -EINVAL, -ENOENT, ... with one line that names the file. */
int text_model_open(const char *model_dir, struct text_model *ret, struct err *e);
void text_model_done(struct text_model *m);

#endif
