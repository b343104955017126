/* tokenizer_json.c - reads tokenizer.json and tokenizer_config.json.
 *
 * tokenizer.json can describe many machines; this is one of them.  Whatever in the
 * file would make the reference do something else is refused in words, because a
 * tokenizer that is nearly right is worse than none: the model answers, badly.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "worker/text/bytes.h"
#include "worker/text/chars.h"
#include "worker/text/nfc.h"
#include "worker/text/tokenizer_impl.h"

#define MAX_MERGES (1u << 24)

/* The two patterns we can cut by (pretokenize.h), as the files spell them. */
static const struct pattern {
	const char *regex;
	bool marks_are_words;
} patterns[] = {
	{ "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"
	  "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", true },
	{ "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
	  "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", false },
};

static bool absent(const json_t *v)
{
	return !v || json_is_null(v);
}

static bool str_is(const json_t *v, const char *want)
{
	size_t n;
	const char *s = jx_str(v, &n);

	return s && n == strlen(want) && !memcmp(s, want, n);
}

static bool type_is(const json_t *v, const char *type)
{
	return str_is(json_object_get(v, "type"), type);
}

/* For messages: what the file has where we want something else. */
static const char *type_of(const json_t *v)
{
	const char *s = jx_str(json_object_get(v, "type"), NULL);

	return s ? s : absent(v) ? "null" : "no type";
}

static int check_type(const json_t *v, const char *what, const char *want, struct err *e)
{
	if (type_is(v, want))
		return 0;
	return err_set(e, -EINVAL, "%s: %.80s, only %s is supported", what, type_of(v), want);
}

static int check_byte_level(const json_t *v, struct err *e)
{
	int r = check_type(v, "pre_tokenizer, second part", "ByteLevel", e);

	if (r < 0)
		return r;
	if (!json_is_false(json_object_get(v, "add_prefix_space")) ||
	    !json_is_false(json_object_get(v, "use_regex")))
		return err_set(e, -EINVAL, "pre_tokenizer: ByteLevel must have add_prefix_space "
			       "and use_regex false");
	return 0;
}

static int read_split(const json_t *v, bool *ret_marks_are_words, struct err *e)
{
	const json_t *regex = json_object_get(json_object_get(v, "pattern"), "Regex");
	int r = check_type(v, "pre_tokenizer, first part", "Split", e);

	if (r < 0)
		return r;
	if (!str_is(json_object_get(v, "behavior"), "Isolated") ||
	    !json_is_false(json_object_get(v, "invert")))
		return err_set(e, -EINVAL, "pre_tokenizer: Split must be Isolated, not inverted");
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		if (!str_is(regex, patterns[i].regex))
			continue;
		*ret_marks_are_words = patterns[i].marks_are_words;
		return 0;
	}
	return err_set(e, -EINVAL, "pre_tokenizer: the pattern is neither that of Qwen3.5 and 3.6 "
		       "nor that of Qwen2 and 3");
}

static int read_pre_tokenizer(const json_t *v, bool *ret_marks_are_words, struct err *e)
{
	const json_t *parts = json_object_get(v, "pretokenizers");
	int r = check_type(v, "pre_tokenizer", "Sequence", e);

	if (r < 0)
		return r;
	if (json_array_size(parts) != 2)
		return err_set(e, -EINVAL, "pre_tokenizer: a Sequence of %zu parts, only Split and "
			       "ByteLevel are supported", json_array_size(parts));
	r = check_byte_level(json_array_get(parts, 1), e);
	return r < 0 ? r : read_split(json_array_get(parts, 0), ret_marks_are_words, e);
}

/* Fields of the model that would change how it merges. */
static int check_model(const json_t *model, struct err *e)
{
	static const char *const false_ones[] = { "byte_fallback", "ignore_merges" };
	static const char *const empty_ones[] = { "continuing_subword_prefix",
						  "end_of_word_suffix", "unk_token" };
	const json_t *dropout = json_object_get(model, "dropout");
	int r = check_type(model, "model", "BPE", e);
	double p;

	if (r < 0)
		return r;
	for (size_t i = 0; i < 2; i++) {
		const json_t *v = json_object_get(model, false_ones[i]);

		if (!absent(v) && !json_is_false(v))
			return err_set(e, -EINVAL, "model.%s must be false", false_ones[i]);
	}
	for (size_t i = 0; i < 3; i++) {
		const json_t *v = json_object_get(model, empty_ones[i]);

		if (!absent(v) && !str_is(v, ""))
			return err_set(e, -EINVAL, "model.%s must be null or empty", empty_ones[i]);
	}
	if (!absent(dropout) && (jx_double(dropout, &p) < 0 || p != 0))
		return err_set(e, -EINVAL, "model.dropout must be null");
	return 0;
}

/* An id, from 0 to VOCAB_MAX_IDS - 1. */
static bool read_id(const json_t *v, uint32_t *ret_id)
{
	int64_t x;

	if (jx_int64(v, &x) < 0 || x < 0 || x >= VOCAB_MAX_IDS)
		return false;
	*ret_id = (uint32_t)x;
	return true;
}

static int read_vocab(struct tokenizer *t, json_t *vocab, struct err *e)
{
	CLEANUP(buf_donep) struct buf bytes = BUF_INIT;
	const char *key;
	json_t *v;
	int r;

	if (!json_is_object(vocab))
		return err_set(e, -EINVAL, "model.vocab is missing or not an object");
	json_object_foreach(vocab, key, v) {
		uint32_t id;

		if (!read_id(v, &id))
			return err_set(e, -EINVAL, "model.vocab: the id of '%.80s' is not from 0 "
				       "to %u", key, VOCAB_MAX_IDS - 1);
		if (vocab_kind_of(&t->vocab, id) != VOCAB_NONE)
			return err_set(e, -EINVAL, "model.vocab: the id %" PRIu32
				       " comes twice", id);
		r = bytes_unspell(key, strlen(key), &bytes);
		if (r == -EINVAL)
			return err_set(e, r, "model.vocab: '%.80s' is not written in the "
				       "byte-level alphabet", key);
		if (r == 0)
			r = vocab_set(&t->vocab, id, VOCAB_PLAIN, bytes.p ? bytes.p : "", bytes.n);
		if (r < 0)
			return err_set(e, r, "model.vocab: no room for '%.80s'", key);
	}
	if (vocab_index(&t->vocab) < 0)
		return err_set(e, -ENOMEM, "model.vocab: out of memory");
	return 0;
}

/* The two sides of a merge: "left right" or ["left", "right"]. */
static bool merge_sides(const json_t *v, const char *side[2], size_t n[2])
{
	const char *space;

	if (json_is_array(v)) {
		side[0] = jx_str(json_array_get(v, 0), &n[0]);
		side[1] = jx_str(json_array_get(v, 1), &n[1]);
		return json_array_size(v) == 2 && side[0] && side[1];
	}
	side[0] = jx_str(v, &n[1]);
	space = side[0] ? memchr(side[0], ' ', n[1]) : NULL;
	if (!space)
		return false;
	side[1] = space + 1;
	n[0] = (size_t)(space - side[0]);
	n[1] -= n[0] + 1;
	return !memchr(side[1], ' ', n[1]);
}

/* Appends what a side spells and finds its id. */
static int read_side(const struct tokenizer *t, const char *s, size_t n, struct buf *one,
		     struct buf *both, uint32_t *ret_id)
{
	int r = bytes_unspell(s, n, one);
	const struct vocab_slot *slot;

	if (r == 0)
		r = buf_put(both, one->p, one->n);
	if (r < 0)
		return r;
	slot = vocab_find(&t->vocab, one->p, one->n);
	if (!slot)
		return -EINVAL;
	*ret_id = slot->id;
	return 0;
}

static int read_merge(struct tokenizer *t, const json_t *v, uint32_t rank, struct buf bytes[2],
		      struct err *e)
{
	const struct vocab_slot *joined;
	const char *side[2];
	uint32_t id[2];
	size_t n[2];
	int r;

	if (!merge_sides(v, side, n))
		return err_set(e, -EINVAL, "model.merges[%" PRIu32 "] is neither \"a b\" nor "
			       "[\"a\", \"b\"]", rank);
	buf_clear(&bytes[1]);
	for (int i = 0; i < 2; i++) {
		r = read_side(t, side[i], n[i], &bytes[0], &bytes[1], &id[i]);
		if (r < 0)
			return err_set(e, r, "model.merges[%" PRIu32 "]: '%.*s' is not in the "
				       "vocabulary", rank, n[i] < 80 ? (int)n[i] : 80, side[i]);
	}
	joined = vocab_find(&t->vocab, bytes[1].p, bytes[1].n);
	if (!joined)
		return err_set(e, -EINVAL, "model.merges[%" PRIu32 "]: what it makes is not in the "
			       "vocabulary", rank);
	bpe_put(&t->bpe, id[0], id[1], rank, joined->id);
	return 0;
}

static int read_merges(struct tokenizer *t, const json_t *merges, struct err *e)
{
	struct buf bytes[2] = { BUF_INIT, BUF_INIT };
	unsigned byte = 0;
	int r;

	if (!json_is_array(merges) || json_array_size(merges) > MAX_MERGES)
		return err_set(e, -EINVAL, "model.merges is missing, not a list, or longer than %u",
			       MAX_MERGES);
	r = bpe_init(&t->bpe, &t->vocab, json_array_size(merges), &byte);
	if (r == -EINVAL)
		return err_set(e, r, "model.vocab has no token for the byte 0x%02x", byte);
	for (uint32_t i = 0; r == 0 && i < json_array_size(merges); i++)
		r = read_merge(t, json_array_get(merges, i), i, bytes, e);
	buf_done(&bytes[0]);
	buf_done(&bytes[1]);
	if (r == 0)
		r = bpe_finish(&t->bpe, &t->vocab);
	return r == -ENOMEM ? err_set(e, r, "model.merges: out of memory") : r;
}

/* A flag of an added token.  Absent is false. */
static bool flag(const json_t *v, const char *name)
{
	return json_is_true(json_object_get(v, name));
}

/* One added token; `id` comes from outside it in one of the two files. */
static int read_added(struct tokenizer *t, uint32_t id, const json_t *v, struct err *e)
{
	static const char *const refused[] = { "single_word", "lstrip", "rstrip", "normalized" };
	size_t n, n_old;
	const char *text = jx_str(json_object_get(v, "content"), &n), *old;
	uint32_t known;
	int r;

	if (!text)
		return err_set(e, -EINVAL, "added token %" PRIu32 " has no content", id);
	for (size_t i = 0; i < 4; i++)
		if (flag(v, refused[i]))
			return err_set(e, -EINVAL, "added token %" PRIu32 " ('%.80s'): %s must be "
				       "false", id, text, refused[i]);
	old = tokenizer_bytes(t, id, &n_old);
	if (old && (n_old != n || memcmp(old, text, n) != 0))
		return err_set(e, -EINVAL, "added token %" PRIu32 " is '%.80s', but that id is "
			       "'%.*s' already", id, text, n_old < 80 ? (int)n_old : 80, old);
	if (tokenizer_find(t, text, &known) == 0 && known != id)
		return err_set(e, -EINVAL, "added token '%.80s' has the id %" PRIu32
			       " and %" PRIu32, text, id, known);
	r = added_put(&t->added, text, n, id);
	if (r == -EINVAL)
		return err_set(e, r, "added token %" PRIu32 " has %zu bytes, allowed are 1 to %d",
			       id, n, ADDED_MAX_BYTES);
	if (r == 0)
		r = vocab_set(&t->vocab, id, flag(v, "special") ? VOCAB_SPECIAL : VOCAB_ADDED,
			      text, n);
	return r < 0 ? err_set(e, r, "added token %" PRIu32 ": no room", id) : 0;
}

static int read_added_list(struct tokenizer *t, const json_t *list, struct err *e)
{
	uint32_t id;
	int r;

	if (!absent(list) && !json_is_array(list))
		return err_set(e, -EINVAL, "added_tokens is not a list");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *v = json_array_get(list, i);

		if (!read_id(json_object_get(v, "id"), &id))
			return err_set(e, -EINVAL, "added_tokens[%zu]: the id is not from 0 to %u",
				       i, VOCAB_MAX_IDS - 1);
		r = read_added(t, id, v, e);
		if (r < 0)
			return r;
	}
	return 0;
}

static int fill_chars(struct tokenizer *t, bool marks_are_words, struct err *e)
{
	t->chars = malloc(CHARS_N);
	if (!t->chars)
		return err_set(e, -ENOMEM, "out of memory");
	chars_fill(t->chars, marks_are_words);
	nfc_fill(t->chars);
	return 0;
}

int tokenizer_read_json(struct tokenizer *t, const json_t *root, struct err *e)
{
	const json_t *model = json_object_get(root, "model");
	const json_t *post = json_object_get(root, "post_processor");
	bool marks_are_words = false;
	int r;

	if (!json_is_object(root))
		return err_set(e, -EINVAL, "not an object");
	r = check_type(json_object_get(root, "normalizer"), "normalizer", "NFC", e);
	if (r == 0)
		r = read_pre_tokenizer(json_object_get(root, "pre_tokenizer"), &marks_are_words, e);
	if (r == 0)
		r = check_type(json_object_get(root, "decoder"), "decoder", "ByteLevel", e);
	/* ByteLevel as post-processor moves offsets only; others add tokens. */
	if (r == 0 && !absent(post))
		r = check_type(post, "post_processor", "ByteLevel", e);
	if (r == 0)
		r = check_model(model, e);
	if (r == 0)
		r = fill_chars(t, marks_are_words, e);
	if (r == 0)
		r = read_vocab(t, json_object_get(model, "vocab"), e);
	if (r == 0)
		r = read_merges(t, json_object_get(model, "merges"), e);
	return r < 0 ? r : read_added_list(t, json_object_get(root, "added_tokens"), e);
}

int tokenizer_read_config(struct tokenizer *t, const json_t *root, struct err *e)
{
	json_t *map = json_object_get(root, "added_tokens_decoder"), *v;
	const char *key;

	if (!json_is_object(root))
		return err_set(e, -EINVAL, "not an object");
	if (!absent(map) && !json_is_object(map))
		return err_set(e, -EINVAL, "added_tokens_decoder is not an object");
	json_object_foreach(map, key, v) {
		char *end;
		unsigned long id = strtoul(key, &end, 10);
		int r;

		if (*key < '0' || *key > '9' || *end || id >= VOCAB_MAX_IDS)
			return err_set(e, -EINVAL, "added_tokens_decoder: '%.80s' is not an id "
				       "from 0 to %u", key, VOCAB_MAX_IDS - 1);
		r = read_added(t, (uint32_t)id, v, e);
		if (r < 0)
			return r;
	}
	return 0;
}
