/* tokenizer.h - text to token ids and back, for one model.
 *
 * Byte-level BPE as the Qwen models use it, read from the tokenizer.json and
 * tokenizer_config.json of a model folder.  The ids are those of the reference
 * (Hugging Face tokenizers 0.22, 0.23) for every text: the normaliser, the cutting
 * into words and the merging follow it to the last code point, and
 * tests/golden/compare_tokenizer.py holds both against each other.
 *
 * Encoding, in this order:
 *  1. added tokens (<|im_start|>, <think>) are cut out of the raw text, leftmost
 *     first, then the longest;
 *  2. what lies between is normalised to NFC (nfc.h),
 *  3. cut into pieces (pretokenize.h),
 *  4. and each piece merged (bpe.h).
 * Nothing is put before or after, nothing is cut off.
 *
 * A tokenizer never changes once it is open; any number of threads may use one at
 * the same time.  The cost of a call is O(n log n) in its input, whatever that is.
 */
#ifndef HEARTH_WORKER_TEXT_TOKENIZER_H
#define HEARTH_WORKER_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/err.h"
#include "worker/text/ids.h"
#include "worker/text/span.h"

struct tokenizer;

/* Reads both files of a model folder.  The real 248,077 tokens take about 0.7 s.
 * -ENOENT and other codes of open() or read(); -EINVAL (not JSON, or not a tokenizer
 * as above: the text says which file and what); -EFBIG; -ENOMEM. */
int tokenizer_open(const char *model_dir, struct tokenizer **ret, struct err *e);

/* The same from the texts of the two files; `config` may be NULL. */
int tokenizer_parse(const char *json, size_t n_json, const char *config, size_t n_config,
		    struct tokenizer **ret, struct err *e);

struct tokenizer *tokenizer_free(struct tokenizer *t);	/* NULL ok; returns NULL */

enum {
	/* Recognise the added tokens marked special.  Without it they are plain text;
	 * the other added ones (<think>, <tool_call>) match either way. */
	TOK_SPECIAL = 1,
};

#define TOKENIZER_MAX_TEXT 0x7fffffffu	/* bytes */

/* Appends the ids of n bytes of UTF-8.  `data` are the stretches that came from outside,
 * sorted and disjoint: no added token is recognised that overlaps one.  They do not cut
 * words: a piece may cross their ends, so marking text as data changes no other id.
 * -EINVAL: the text is not UTF-8, or the spans are not as said; -EFBIG: longer than
 * TOKENIZER_MAX_TEXT; -ENOMEM.  On failure `out` holds what it held before. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n,
		     const struct text_span *data, size_t n_data, unsigned flags,
		     struct ids *out);

/* Appends the text of n ids; what is not UTF-8 becomes U+FFFD, one for each maximal
 * invalid prefix.  Unknown ids vanish, and with skip_special the special ones; see
 * detok.h for the stream.  0 or -ENOMEM. */
int tokenizer_decode(const struct tokenizer *t, const uint32_t *ids, size_t n, bool skip_special,
		     struct buf *out);

/* The highest known id + 1.  Below it there may be ids without a string. */
uint32_t tokenizer_n_ids(const struct tokenizer *t);
bool tokenizer_id_known(const struct tokenizer *t, uint32_t id);
/* An added token that skip_special drops. */
bool tokenizer_is_special(const struct tokenizer *t, uint32_t id);
/* An added token, special or not: its text stands in the output as it is. */
bool tokenizer_is_added(const struct tokenizer *t, uint32_t id);

/* The bytes an id stands for: not terminated, not always whole characters, valid as
 * long as the tokenizer.  NULL: the id is unknown. */
const char *tokenizer_bytes(const struct tokenizer *t, uint32_t id, size_t *ret_n);

/* The id of an added token by its text, or else of a plain token by the text it
 * stands for (" the", "\n").  -ENOENT. */
int tokenizer_find(const struct tokenizer *t, const char *text, uint32_t *ret_id);

#endif
