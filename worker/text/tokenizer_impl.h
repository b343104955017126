/* tokenizer_impl.h - what is inside a tokenizer; for tokenizer*.c alone. */
#ifndef HEARTH_WORKER_TEXT_TOKENIZER_IMPL_H
#define HEARTH_WORKER_TEXT_TOKENIZER_IMPL_H

#include "lib/json.h"
#include "worker/text/added.h"
#include "worker/text/bpe.h"
#include "worker/text/tokenizer.h"
#include "worker/text/vocab.h"

struct tokenizer {
	struct vocab vocab;
	struct bpe bpe;
	struct added added;
	uint8_t *chars;		/* (CHARS_N): chars.h, nfc.h */
};

/* Fill an empty tokenizer: first from the value of tokenizer.json, then, when there
 * is one, from that of tokenizer_config.json, which has more added tokens and the
 * last word on what is special.  -EINVAL with a reason, -ENOMEM. */
int tokenizer_read_json(struct tokenizer *t, const json_t *root, struct err *e);
int tokenizer_read_config(struct tokenizer *t, const json_t *root, struct err *e);

#endif
