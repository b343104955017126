/* tokenizer_test.c - claims about worker/text/tokenizer.h, detok.h and nfc.h. */
#include "tests/unit/unit.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/json.h"
#include "lib/own.h"
#include "worker/text/chars.h"
#include "worker/text/detok.h"
#include "worker/text/nfc.h"
#include "worker/text/pretokenize.h"
#include "worker/text/tokenizer.h"

/* The small tokenizer: tests/golden/make_small_tokenizer.py. */
static struct tokenizer *small;

static const char *golden(const char *name)
{
	static char path[4096];
	const char *top = getenv("top_srcdir");

	snprintf(path, sizeof(path), "%s/tests/golden/tokenizer%s%s", top ? top : ".",
		 *name ? "/" : "", name);
	return path;
}

static int open_small(void **state)
{
	struct err e = { 0, "" };

	(void)state;
	if (tokenizer_open(golden(""), &small, &e) < 0)
		fail_msg("%s", e.text);
	return 0;
}

static int close_small(void **state)
{
	(void)state;
	small = tokenizer_free(small);
	return 0;
}

static struct ids encode(const struct tokenizer *t, const char *text, const struct text_span *data,
			 size_t n_data, unsigned flags)
{
	struct ids out = IDS_INIT;

	OK(tokenizer_encode(t, text, strlen(text), data, n_data, flags, &out));
	return out;
}

static bool same_ids(const struct ids *a, const struct ids *b)
{
	return a->n == b->n && (!a->n || !memcmp(a->p, b->p, a->n * sizeof(*a->p)));
}

static uint32_t id_of(const char *text)
{
	uint32_t id;

	OK(tokenizer_find(small, text, &id));
	return id;
}

static bool has(const struct ids *l, uint32_t id)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->p[i] == id)
			return true;
	return false;
}

static void read_ids(const json_t *list, struct ids *out)
{
	int64_t id;

	for (size_t i = 0; i < json_array_size(list); i++) {
		OK(jx_int64(json_array_get(list, i), &id));
		OK(ids_push(out, (uint32_t)id));
	}
}

/* Calls check() for each line of a golden file. */
static size_t each_line(const char *name, void (*check)(const json_t *row, const struct ids *ids))
{
	CLEANUP(fclosep) FILE *f = fopen(golden(name), "re");
	CLEANUP(freep) char *line = NULL;
	size_t cap = 0, n_lines = 0;
	ssize_t n;

	assert_non_null(f);
	for (; (n = getline(&line, &cap, f)) > 0; n_lines++) {
		CLEANUP(ids_donep) struct ids ids = IDS_INIT;
		JX_OWNED json_t *row = NULL;

		OK(jx_load(line, (size_t)n, &row, NULL));
		read_ids(json_object_get(row, "ids"), &ids);
		check(row, &ids);
	}
	return n_lines;
}

static void check_encode(const json_t *row, const struct ids *want)
{
	CLEANUP(ids_donep) struct ids ids = IDS_INIT;
	bool special = json_is_true(json_object_get(row, "special"));
	size_t n;
	const char *text = jx_str(json_object_get(row, "text"), &n);

	OK(tokenizer_encode(small, text, n, NULL, 0, special ? TOK_SPECIAL : 0, &ids));
	if (!same_ids(&ids, want))
		fail_msg("other ids than the reference for '%s'", text);
}

TEST(the_reference_gives_the_same_ids)
{
	assert_true(each_line("encode.jsonl", check_encode) > 3000);
}

static void check_decode(const json_t *row, const struct ids *ids)
{
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	bool skip = json_is_true(json_object_get(row, "skip_special"));
	size_t n;
	const char *want = jx_str(json_object_get(row, "text"), &n);

	OK(tokenizer_decode(small, ids->p, ids->n, skip, &text));
	EQ(text.n, n);
	assert_memory_equal(text.n ? text.p : "", want, n);
}

TEST(the_reference_gives_the_same_text)
{
	EQ(each_line("decode.jsonl", check_decode), 1000);
}

static void decodes_to(const uint32_t *ids, size_t n, bool skip, const char *want)
{
	CLEANUP(buf_donep) struct buf text = BUF_INIT;

	OK(tokenizer_decode(small, ids, n, skip, &text));
	assert_string_equal(text.p ? text.p : "", want);
}

TEST(bytes_become_text_with_a_mark_for_each_invalid_prefix)
{
	uint32_t f0 = id_of("\xf0"), x9f = id_of("\x9f"), x98 = id_of("\x98"), x80 = id_of("\x80");
	uint32_t im = id_of("<|im_start|>"), think = id_of("<think>"), unknown = 4000000;

	decodes_to((uint32_t[]){ f0, x9f, x98, x80 }, 4, true, "\xf0\x9f\x98\x80");
	decodes_to((uint32_t[]){ f0, x9f }, 2, true, "\xef\xbf\xbd");
	decodes_to((uint32_t[]){ f0, id_of("("), id_of("\xe0"), id_of("a") }, 4, true,
		   "\xef\xbf\xbd(\xef\xbf\xbd" "a");
	/* skipped and unknown ids leave a character whole, a kept added token does not */
	decodes_to((uint32_t[]){ f0, x9f, im, unknown, x98, x80 }, 6, true, "\xf0\x9f\x98\x80");
	decodes_to((uint32_t[]){ f0, x9f, think, x98, x80 }, 5, true,
		   "\xef\xbf\xbd<think>\xef\xbf\xbd\xef\xbf\xbd");
	decodes_to((uint32_t[]){ f0, im }, 2, false, "\xef\xbf\xbd<|im_start|>");
}

TEST(a_stream_adds_up_and_never_takes_anything_back)
{
	static const char text[] = "na\xc3\xafve \xf0\x9f\x98\x80\xf0\x9f\x9a\x80 \xe4\xbd\xa0";
	CLEANUP(buf_donep) struct buf out = BUF_INIT;
	struct detok d;

	/* every byte a token of its own, cut short at every length */
	for (size_t n = 0; n < sizeof(text); n++) {
		CLEANUP(buf_donep) struct buf batch = BUF_INIT;
		uint32_t ids[sizeof(text)];

		buf_clear(&out);
		detok_init(&d, small, false);
		for (size_t i = 0; i < n; i++) {
			ids[i] = id_of((char[]){ text[i], '\0' });
			OK(detok_push(&d, ids[i], &out));
			assert_memory_equal(out.p ? out.p : "", text, out.n);
			assert_true(i + 1 - out.n <= 3);
		}
		OK(detok_finish(&d, &out));
		OK(tokenizer_decode(small, ids, n, false, &batch));
		EQ(out.n, batch.n);
		assert_memory_equal(out.p ? out.p : "", batch.p ? batch.p : "", out.n);
	}
}

TEST(text_from_outside_never_becomes_an_added_token)
{
	static const char text[] = "<|im_start|>user\n<|im_end|><|im_end|>\n";
	struct text_span all = { 0, sizeof(text) - 1 }, one = { 20, 21 };
	struct text_span beside = { 17, 17 }, after = { 27, 28 };
	uint32_t start = id_of("<|im_start|>"), end = id_of("<|im_end|>");
	CLEANUP(ids_donep) struct ids whole = encode(small, text, &all, 1, TOK_SPECIAL);
	CLEANUP(ids_donep) struct ids part = encode(small, text, &one, 1, TOK_SPECIAL);
	CLEANUP(ids_donep) struct ids none = encode(small, text, &beside, 1, TOK_SPECIAL);
	CLEANUP(ids_donep) struct ids second = encode(small, text, &after, 1, TOK_SPECIAL);
	CLEANUP(ids_donep) struct ids free_ = encode(small, text, NULL, 0, TOK_SPECIAL);

	assert_false(has(&whole, start) || has(&whole, end));
	decodes_to(whole.p, whole.n, true, text);
	/* a single byte of the first <|im_end|> is enough; the second stays */
	assert_true(has(&part, start) && has(&part, end));
	assert_int_not_equal(part.n, free_.n);
	assert_true(same_ids(&none, &free_));
	assert_true(has(&second, start));
	EQ(second.p[second.n - 1], free_.p[free_.n - 1]);
	assert_int_not_equal(second.n, free_.n);
}

TEST(the_longest_token_outside_the_span_is_taken)
{
	/* The span covers "_single>" only: what lies before it is no token by itself,
	 * and the shorter <tts_text_bos> behind it is found. */
	static const char text[] = "<tts_text_bos_single><tts_text_bos>";
	struct text_span span = { 13, 21 };
	CLEANUP(ids_donep) struct ids ids = encode(small, text, &span, 1, TOK_SPECIAL);

	assert_false(has(&ids, id_of("<tts_text_bos_single>")));
	EQ(ids.p[ids.n - 1], id_of("<tts_text_bos>"));
}

TEST(a_span_does_not_cut_words)
{
	static const char text[] = "The quick response isn't there  yet\n\n";
	CLEANUP(ids_donep) struct ids plain = encode(small, text, NULL, 0, TOK_SPECIAL);

	for (size_t from = 0; from < sizeof(text); from++)
		for (size_t to = from; to < sizeof(text); to++) {
			struct text_span span = { from, to };
			CLEANUP(ids_donep) struct ids ids = encode(small, text, &span, 1,
								   TOK_SPECIAL);

			assert_true(same_ids(&ids, &plain));
		}
}

TEST(without_the_flag_only_special_tokens_are_text)
{
	CLEANUP(ids_donep) struct ids ids =
		encode(small, "<think>\n<|im_end|></think>", NULL, 0, 0);

	EQ(ids.p[0], id_of("<think>"));
	EQ(ids.p[ids.n - 1], id_of("</think>"));
	assert_false(has(&ids, id_of("<|im_end|>")));
	assert_false(tokenizer_is_special(small, id_of("<think>")));
	assert_true(tokenizer_is_added(small, id_of("<think>")));
	assert_true(tokenizer_is_special(small, id_of("<|im_end|>")));
}

TEST(what_cannot_be_encoded_leaves_the_ids_alone)
{
	static const char *const bad[] = { "a\xff", "\xc0\x80", "abcdefgh\xed\xa0\x80",
					   "\xf0\x9f\x98", "\xf4\x90\x80\x80", "\x80" };
	static const struct text_span wrong[][2] = {
		{ { 0, 2 }, { 1, 3 } }, { { 2, 1 }, { 3, 3 } }, { { 0, 1 }, { 2, 5 } },
		{ { 3, 4 }, { 0, 1 } },
	};
	CLEANUP(ids_donep) struct ids ids = encode(small, "before", NULL, 0, 0);
	size_t n = ids.n;

	for (size_t i = 0; i < 6; i++)
		EQ(tokenizer_encode(small, bad[i], strlen(bad[i]), NULL, 0, 0, &ids), -EINVAL);
	for (size_t i = 0; i < 4; i++)
		EQ(tokenizer_encode(small, "abcd", 4, wrong[i], 2, 0, &ids), -EINVAL);
	EQ(tokenizer_encode(small, "", (size_t)TOKENIZER_MAX_TEXT + 1, NULL, 0, 0, &ids), -EFBIG);
	EQ(ids.n, n);
}

TEST(nothing_gives_nothing_and_nul_is_a_character)
{
	CLEANUP(ids_donep) struct ids ids = IDS_INIT;
	CLEANUP(buf_donep) struct buf text = BUF_INIT;

	OK(tokenizer_encode(small, NULL, 0, NULL, 0, TOK_SPECIAL, &ids));
	EQ(ids.n, 0);
	OK(tokenizer_decode(small, NULL, 0, false, &text));
	EQ(text.n, 0);
	OK(tokenizer_encode(small, "a\0b", 3, NULL, 0, TOK_SPECIAL, &ids));
	OK(tokenizer_decode(small, ids.p, ids.n, false, &text));
	EQ(text.n, 3);
	assert_memory_equal(text.p, "a\0b", 3);
}

TEST(ids_are_known_up_to_the_last_one_of_both_files)
{
	uint32_t last = id_of("<|audio_pad|>"), id;
	size_t n;

	EQ(tokenizer_n_ids(small), last + 1);
	assert_true(tokenizer_id_known(small, last));
	assert_false(tokenizer_id_known(small, last + 1));
	assert_null(tokenizer_bytes(small, UINT32_MAX, &n));
	EQ(tokenizer_find(small, "<|no_such|>", &id), -ENOENT);
	EQ(tokenizer_find(small, "", &id), -ENOENT);
	assert_memory_equal(tokenizer_bytes(small, id_of(" the"), &n), " the", 4);
	EQ(n, 4);
}

static void *encode_often(void *ret_same)
{
	static const char text[] = "Many threads, one tokenizer: caf\x65\xcc\x81 "
				   "\xe4\xbd\xa0\xe5\xa5\xbd <think>";
	CLEANUP(ids_donep) struct ids first = IDS_INIT;

	*(bool *)ret_same = true;
	tokenizer_encode(small, text, sizeof(text) - 1, NULL, 0, TOK_SPECIAL, &first);
	for (int i = 0; i < 2000; i++) {
		CLEANUP(ids_donep) struct ids ids = IDS_INIT;

		tokenizer_encode(small, text, sizeof(text) - 1, NULL, 0, TOK_SPECIAL, &ids);
		*(bool *)ret_same &= first.n > 10 && same_ids(&ids, &first);
	}
	return NULL;
}

TEST(threads_may_share_one)
{
	pthread_t thread[4];
	bool same[4];

	for (int i = 0; i < 4; i++)
		OK(pthread_create(&thread[i], NULL, encode_often, &same[i]));
	for (int i = 0; i < 4; i++)
		OK(pthread_join(thread[i], NULL));
	assert_true(same[0] && same[1] && same[2] && same[3]);
}

static void nfc_is(const char *in, const char *want)
{
	static uint8_t table[CHARS_N];
	CLEANUP(buf_donep) struct buf out = BUF_INIT;
	size_t n = strlen(in), clean;

	chars_fill(table, true);
	nfc_fill(table);
	clean = nfc_quick(table, in, n);
	OK(buf_put(&out, in, clean));
	OK(nfc_put(table, in + clean, n - clean, &out));
	assert_string_equal(out.p, want);
	if (!strcmp(in, want))
		return;
	assert_true(clean < n);
}

TEST(nfc_composes_orders_and_keeps_exclusions_apart)
{
	nfc_is("plain", "plain");
	nfc_is("cafe\xcc\x81!", "caf\xc3\xa9!");
	nfc_is("q\xcc\x87\xcc\xa3", "q\xcc\xa3\xcc\x87");		/* 230 220 -> 220 230 */
	nfc_is("\xe1\xb8\x8b\xcc\xa3", "\xe1\xb8\x8d\xcc\x87");		/* 1E0B 0323 -> 1E0D 0307 */
	nfc_is("\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc");		/* 0958 is excluded */
	nfc_is("\xe2\x84\xab", "\xc3\x85");					/* Angstrom sign */
	nfc_is("\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x81");	/* Hangul L V T */
	nfc_is("\xea\xb0\x80\xe1\x86\xa8", "\xea\xb0\x81");			/* Hangul LV T */
	nfc_is("\xcc\x81 a", "\xcc\x81 a");
	/* U+07FD (class 220) came with Unicode 11: the reference does not move it */
	nfc_is("a\xcc\x88\xdf\xbd", "\xc3\xa4\xdf\xbd");
	nfc_is("q\xcc\x88\xdf\xbd", "q\xcc\x88\xdf\xbd");
}

TEST(a_long_run_of_marks_is_ordered_too)
{
	CLEANUP(buf_donep) struct buf in = BUF_INIT, want = BUF_INIT;

	buf_puts(&in, "q");
	buf_puts(&want, "q");
	for (int i = 0; i < 1000; i++) {
		buf_puts(&in, "\xcc\x87\xcc\xa3");
		buf_puts(&want, "\xcc\xa3");
	}
	for (int i = 0; i < 1000; i++)
		buf_puts(&want, "\xcc\x87");
	nfc_is(in.p, want.p);
}

/* `want` is the text with a '|' between its pieces. */
static void cuts_into(const char *want)
{
	static uint8_t table[CHARS_N];
	CLEANUP(buf_donep) struct buf text = BUF_INIT, got = BUF_INIT;

	chars_fill(table, true);
	for (const char *p = want; *p; p++)
		if (*p != '|')
			buf_putc(&text, *p);
	for (size_t from = 0, to; from < text.n; from = to) {
		to = pretokenize_next(table, text.p, text.n, from);
		assert_true(to > from && to <= text.n);
		buf_puts(&got, from ? "|" : "");
		buf_put(&got, text.p + from, to - from);
	}
	assert_string_equal(got.p, want);
}

TEST(text_is_cut_where_the_pattern_cuts_it)
{
	cuts_into("Hello|,| world|!");
	cuts_into("a| | b|  \n|\tc");
	cuts_into("don|'t| I|'LL| we|'rE| x|'d|s| '|q|'r|.");
	cuts_into("it|'\xc5\xbf|t");			/* U+017F folds to s */
	cuts_into("it|'\xc5\xbe" "t");		/* U+017E does not */
	cuts_into("1|2|\xd9\xa3|\xc2\xbd|th");	/* any number, one at a time */
	cuts_into("a|   \n \n| | b|  ");
	cuts_into("(x| ...\n\n\n|_y");
	cuts_into("_y|...\r\n\n| !!|a");
	cuts_into("e\xcc\x81t|!\xcc\x81|!");		/* marks belong to words */
	cuts_into("a|\xc2\x85|\xc2\x85z");		/* U+0085 is white space, */
	cuts_into("a|\xe1\xa0\x8e\xe1\xa0\x8e|\xc2\x85");	/* U+180E is not */
	cuts_into("\xe1\x8d\xa9|\xf0\x90\xb5\x8d" "a");	/* U+10D4D: a letter of Unicode 16 */
}

/* A tokenizer.json with the 256 bytes, some merges and what a test changes. */
struct doc {
	const char *normalizer, *regex, *byte_level, *decoder, *post;
	const char *model, *vocab, *merges, *added;
};

/* Escaped twice: for C, then for JSON. */
#define HEAD "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?"
#define TAIL "[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define QWEN35 HEAD "[\\\\p{L}\\\\p{M}]+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{M}\\\\p{N}]+" TAIL
#define QWEN2 HEAD "\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+" TAIL

static const struct doc good = {
	"{\"type\":\"NFC\"}", QWEN35, "\"add_prefix_space\":false,\"use_regex\":false",
	"{\"type\":\"ByteLevel\"}", "null", "\"type\":\"BPE\",\"byte_fallback\":false",
	"\"ab\":256,\"abc\":257,\"bc\":258", "\"a b\",\"ab c\"",
	"{\"id\":300,\"content\":\"<x>\",\"special\":true}",
};

static void put_byte(struct buf *b, unsigned byte, unsigned *next)
{
	bool itself = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
	unsigned cp = itself ? byte : 0x100 + (*next)++;

	buf_printf(b, "\"\\u%04x\":%u,", cp, byte);
}

static int parse(const struct doc *d, const char *config, struct tokenizer **ret, struct err *e)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	unsigned next = 0;

	buf_printf(&b, "{\"normalizer\":%s,\"pre_tokenizer\":{\"type\":\"Sequence\","
		   "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},"
		   "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",%s}]},",
		   d->normalizer, d->regex, d->byte_level);
	buf_printf(&b, "\"decoder\":%s,\"post_processor\":%s,\"model\":{%s,\"vocab\":{", d->decoder,
		   d->post, d->model);
	for (unsigned i = 0; i < 256; i++)
		put_byte(&b, i, &next);
	buf_printf(&b, "%s},\"merges\":[%s]},\"added_tokens\":[%s]}", d->vocab, d->merges,
		   d->added);
	assert_true(buf_ok(&b));
	return tokenizer_parse(b.p, b.n, config, config ? strlen(config) : 0, ret, e);
}

static void gives(const struct doc *d, const char *text, const uint32_t *want, size_t n)
{
	struct tokenizer *t = NULL;
	struct err e = { 0, "" };
	struct ids ids, wanted = { (uint32_t *)(uintptr_t)want, n, n };

	if (parse(d, NULL, &t, &e) < 0)
		fail_msg("%s", e.text);
	ids = encode(t, text, NULL, 0, TOK_SPECIAL);
	assert_true(same_ids(&ids, &wanted));
	ids_done(&ids);
	tokenizer_free(t);
}

TEST(both_spellings_of_merges_are_read_and_the_later_of_two_holds)
{
	struct doc d = good;

	gives(&d, "abcb", (uint32_t[]){ 257, 'b' }, 2);
	d.merges = "[\"a\",\"b\"],[\"ab\",\"c\"]";
	gives(&d, "abcb", (uint32_t[]){ 257, 'b' }, 2);
	d.merges = "\"b c\",\"a b\"";
	gives(&d, "abc", (uint32_t[]){ 'a', 258 }, 2);
	d.merges = "\"b c\",\"a b\",\"b c\"";
	gives(&d, "abc", (uint32_t[]){ 256, 'c' }, 2);
	/* a token that no merge makes is never the result, even for its own text */
	d.merges = "\"b c\"";
	gives(&d, "abc", (uint32_t[]){ 'a', 258 }, 2);
}

TEST(marks_belong_to_words_only_in_the_newer_pattern)
{
	struct doc d = good;
	/* "a", U+0315 (composes with nothing), "b": one word of three characters, or the
	 * word "a" and then a mark that begins a piece with "b" */
	const char *text = "a\xcc\x95" "b";

	d.vocab = "\"a\\u00cc\":256";
	d.merges = "\"a \\u00cc\"";
	gives(&d, text, (uint32_t[]){ 256, 0x95, 'b' }, 3);
	d.regex = QWEN2;
	gives(&d, text, (uint32_t[]){ 'a', 0xcc, 0x95, 'b' }, 4);
}

static void refused(const struct doc *d, const char *config, const char *because)
{
	struct tokenizer *t = NULL;
	struct err e = { 0, "" };

	EQ(parse(d, config, &t, &e), -EINVAL);
	assert_null(t);
	if (!strstr(e.text, because))
		fail_msg("'%s' does not say '%s'", e.text, because);
}

#define REFUSED(field, value, because) \
	do { \
		struct doc doc_ = good; \
		doc_.field = (value); \
		refused(&doc_, NULL, because); \
	} while (0)

TEST(another_machine_is_refused_in_words)
{
	REFUSED(normalizer, "{\"type\":\"NFKC\"}", "tokenizer.json: normalizer: NFKC");
	REFUSED(normalizer, "null", "normalizer: null");
	REFUSED(regex, "\\\\w+", "pre_tokenizer: the pattern");
	REFUSED(byte_level, "\"add_prefix_space\":true,\"use_regex\":false", "add_prefix_space");
	REFUSED(byte_level, "\"add_prefix_space\":false", "use_regex");
	REFUSED(decoder, "{\"type\":\"Metaspace\"}", "decoder: Metaspace");
	REFUSED(post, "{\"type\":\"TemplateProcessing\"}", "post_processor: TemplateProcessing");
	REFUSED(model, "\"type\":\"Unigram\"", "model: Unigram");
	REFUSED(model, "\"type\":\"BPE\",\"byte_fallback\":true", "byte_fallback");
	REFUSED(model, "\"type\":\"BPE\",\"ignore_merges\":true", "ignore_merges");
	REFUSED(model, "\"type\":\"BPE\",\"dropout\":0.1", "dropout");
	REFUSED(model, "\"type\":\"BPE\",\"unk_token\":\"?\"", "unk_token");
}

TEST(a_vocabulary_that_contradicts_itself_is_refused)
{
	REFUSED(vocab, "\"ab\":255,\"abc\":257", "255 comes twice");
	REFUSED(vocab, "\"ab\":256,\"abc\":-1", "the id of 'abc'");
	REFUSED(vocab, "\"ab\":256,\"abc\":4294967296", "the id of 'abc'");
	REFUSED(vocab, "\"ab\":256,\"abc\":1.5", "the id of 'abc'");
	REFUSED(vocab, "\"ab\":256,\"abc\":257,\"a b\":258", "byte-level alphabet");
	REFUSED(vocab, "\"abc\":257", "merges[0]: what it makes");
	REFUSED(merges, "\"a b\",\"xy z\"", "merges[1]: 'xy'");
	REFUSED(merges, "\"a b c\"", "merges[0] is neither");
	REFUSED(merges, "[\"a\"]", "merges[0] is neither");
	REFUSED(merges, "7", "merges[0] is neither");
	/* of two "model" the last holds */
	REFUSED(added, "],\"model\":{\"type\":\"BPE\",\"vocab\":{\"!\":0},\"merges\":[]},\"x\":[",
		"no token for the byte 0x00");
}

TEST(added_tokens_that_contradict_are_refused)
{
	struct doc d = good;

	REFUSED(added, "{\"id\":97,\"content\":\"<x>\"}", "that id is 'a' already");
	REFUSED(added, "{\"id\":300,\"content\":\"ab\"}", "has the id 300 and 256");
	REFUSED(added, "{\"id\":300,\"content\":\"\"}", "has 0 bytes");
	REFUSED(added, "{\"id\":300}", "has no content");
	REFUSED(added, "{\"content\":\"<x>\"}", "added_tokens[0]: the id");
	REFUSED(added, "{\"id\":300,\"content\":\"<x>\",\"lstrip\":true}", "lstrip");
	REFUSED(added, "{\"id\":300,\"content\":\"<x>\",\"normalized\":true}", "normalized");
	refused(&d, "[]", "tokenizer_config.json: not an object");
	refused(&d, "{\"added_tokens_decoder\":{\"x\":{}}}", "'x' is not an id");
	refused(&d, "{\"added_tokens_decoder\":{\"300\":{\"content\":\"<y>\"}}}", "'<x>' already");
	refused(&d, "{\"added_tokens_decoder\":{\"301\":{\"content\":\"<x>\"}}}", "301 and 300");
}

TEST(the_config_has_the_last_word_on_special)
{
	struct tokenizer *t = NULL;
	uint32_t id;

	OK(parse(&good, "{\"added_tokens_decoder\":{\"300\":{\"content\":\"<x>\"},"
		 "\"302\":{\"content\":\"<y>\",\"special\":true}}}", &t, NULL));
	assert_false(tokenizer_is_special(t, 300));
	assert_true(tokenizer_is_special(t, 302));
	assert_false(tokenizer_id_known(t, 301));
	EQ(tokenizer_n_ids(t), 303);
	OK(tokenizer_find(t, "<y>", &id));
	EQ(id, 302);
	tokenizer_free(t);
}

TEST(a_missing_file_is_named)
{
	struct tokenizer *t = NULL;
	struct err e;

	EQ(tokenizer_open("/nonexistent", &t, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/nonexistent/tokenizer"));
	EQ(tokenizer_parse("{", 1, NULL, 0, &t, &e), -EINVAL);
	EQ(tokenizer_parse("3", 1, NULL, 0, &t, &e), -EINVAL);
	assert_null(t);
	assert_null(tokenizer_free(NULL));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_reference_gives_the_same_ids),
		cmocka_unit_test(the_reference_gives_the_same_text),
		cmocka_unit_test(bytes_become_text_with_a_mark_for_each_invalid_prefix),
		cmocka_unit_test(a_stream_adds_up_and_never_takes_anything_back),
		cmocka_unit_test(text_from_outside_never_becomes_an_added_token),
		cmocka_unit_test(the_longest_token_outside_the_span_is_taken),
		cmocka_unit_test(a_span_does_not_cut_words),
		cmocka_unit_test(without_the_flag_only_special_tokens_are_text),
		cmocka_unit_test(what_cannot_be_encoded_leaves_the_ids_alone),
		cmocka_unit_test(nothing_gives_nothing_and_nul_is_a_character),
		cmocka_unit_test(ids_are_known_up_to_the_last_one_of_both_files),
		cmocka_unit_test(threads_may_share_one),
		cmocka_unit_test(nfc_composes_orders_and_keeps_exclusions_apart),
		cmocka_unit_test(a_long_run_of_marks_is_ordered_too),
		cmocka_unit_test(text_is_cut_where_the_pattern_cuts_it),
		cmocka_unit_test(both_spellings_of_merges_are_read_and_the_later_of_two_holds),
		cmocka_unit_test(marks_belong_to_words_only_in_the_newer_pattern),
		cmocka_unit_test(another_machine_is_refused_in_words),
		cmocka_unit_test(a_vocabulary_that_contradicts_itself_is_refused),
		cmocka_unit_test(added_tokens_that_contradict_are_refused),
		cmocka_unit_test(the_config_has_the_last_word_on_special),
		cmocka_unit_test(a_missing_file_is_named),
	};

	return cmocka_run_group_tests(tests, open_small, close_small);
}
