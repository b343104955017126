/* tokenizer.c - see tokenizer.h: opening, and the steps of encoding. */
#include "worker/text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "lib/utf8.h"
#include "worker/text/nfc.h"
#include "worker/text/pretokenize.h"
#include "worker/text/tokenizer_impl.h"

/* The largest known tokenizer.json is a tenth of this. */
#define MAX_FILE (256u << 20)

static void tokenizer_freep(struct tokenizer **t)
{
	tokenizer_free(*t);
}

struct tokenizer *tokenizer_free(struct tokenizer *t)
{
	if (!t)
		return NULL;
	vocab_done(&t->vocab);
	bpe_done(&t->bpe);
	added_done(&t->added);
	free(t->chars);
	free(t);
	return NULL;
}

static int new_from(const json_t *json, const char *json_name, const json_t *config,
		    const char *config_name, struct tokenizer **ret, struct err *e)
{
	CLEANUP(tokenizer_freep) struct tokenizer *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return err_set(e, -ENOMEM, "%s: out of memory", json_name);
	vocab_init(&t->vocab);
	added_init(&t->added);
	r = tokenizer_read_json(t, json, e);
	if (r < 0)
		return err_prefix(e, r, "%s", json_name);
	r = config ? tokenizer_read_config(t, config, e) : 0;
	if (r < 0)
		return err_prefix(e, r, "%s", config_name);
	*ret = TAKE(t);
	return 0;
}

int tokenizer_open(const char *model_dir, struct tokenizer **ret, struct err *e)
{
	CLEANUP(buf_donep) struct buf name = BUF_INIT, config_name = BUF_INIT;
	JX_OWNED json_t *json = NULL;
	JX_OWNED json_t *config = NULL;
	int r;

	buf_printf(&name, "%s/tokenizer.json", model_dir);
	buf_printf(&config_name, "%s/tokenizer_config.json", model_dir);
	if (!buf_ok(&name) || !buf_ok(&config_name))
		return err_set(e, -ENOMEM, "%s: out of memory", model_dir);
	r = jx_load_file(config_name.p, MAX_FILE, &config, e);
	if (r == 0)
		r = jx_load_file(name.p, MAX_FILE, &json, e);
	return r < 0 ? r : new_from(json, name.p, config, config_name.p, ret, e);
}

int tokenizer_parse(const char *json, size_t n_json, const char *config, size_t n_config,
		    struct tokenizer **ret, struct err *e)
{
	const char *name = "tokenizer.json", *config_name = "tokenizer_config.json";
	JX_OWNED json_t *v = NULL;
	JX_OWNED json_t *c = NULL;
	int r;

	r = jx_load(json, n_json, &v, e);
	if (r < 0)
		return err_prefix(e, r, "%s", name);
	r = config ? jx_load(config, n_config, &c, e) : 0;
	if (r < 0)
		return err_prefix(e, r, "%s", config_name);
	return new_from(v, name, c, config_name, ret, e);
}

/* One call of tokenizer_encode(). */
struct job {
	const struct tokenizer *t;
	struct bpe_scratch scratch;
	struct buf normal;	/* NFC, where the text is not */
	struct ids *out;
};

static void job_done(struct job *j)
{
	bpe_scratch_done(&j->scratch);
	buf_done(&j->normal);
}

static int put_pieces(struct job *j, const char *s, size_t n)
{
	int r;

	for (size_t from = 0, to; from < n; from = to) {
		to = pretokenize_next(j->t->chars, s, n, from);
		r = bpe_encode(&j->t->bpe, &j->scratch, s + from, to - from, j->out);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Text between added tokens. */
static int put_plain(struct job *j, const char *s, size_t n)
{
	size_t clean = nfc_quick(j->t->chars, s, n);

	if (clean == n)
		return put_pieces(j, s, n);
	buf_clear(&j->normal);
	if (buf_put(&j->normal, s, clean) < 0 ||
	    nfc_put(j->t->chars, s + clean, n - clean, &j->normal) < 0)
		return -ENOMEM;
	return put_pieces(j, j->normal.p, j->normal.n);
}

/* The added tokens in s[from, to), with the plain text before each.  *plain is
 * where text begins that is not put out yet. */
static int put_stretch(struct job *j, const char *s, size_t from, size_t to, unsigned flags,
		       size_t *plain)
{
	struct added_hit hit;
	int r;

	for (; added_find(&j->t->added, s, to, from, &hit); from = hit.to) {
		/* The reference, too, goes on behind a special token that it ignores. */
		if (!(flags & TOK_SPECIAL) && tokenizer_is_special(j->t, hit.id))
			continue;
		r = put_plain(j, s + *plain, hit.from - *plain);
		if (r == 0)
			r = ids_push(j->out, hit.id);
		if (r < 0)
			return r;
		*plain = hit.to;
	}
	return 0;
}

static int put_all(struct job *j, const char *s, size_t n, const struct text_span *data,
		   size_t n_data, unsigned flags)
{
	size_t plain = 0, from = 0;
	int r;

	for (size_t i = 0; i < n_data; i++) {
		if (data[i].from == data[i].to)
			continue;	/* nothing there to overlap */
		r = put_stretch(j, s, from, data[i].from, flags, &plain);
		if (r < 0)
			return r;
		from = data[i].to;
	}
	r = put_stretch(j, s, from, n, flags, &plain);
	return r < 0 ? r : put_plain(j, s + plain, n - plain);
}

static bool spans_ok(const struct text_span *data, size_t n_data, size_t n)
{
	size_t at = 0;

	for (size_t i = 0; i < n_data; i++) {
		if (data[i].from < at || data[i].to < data[i].from || data[i].to > n)
			return false;
		at = data[i].to;
	}
	return true;
}

/* utf8_ok(), eight bytes of ASCII at a time. */
static bool text_ok(const char *s, size_t n)
{
	uint64_t eight;
	size_t len;

	for (size_t i = 0; i < n; i += len) {
		if (n - i >= sizeof(eight)) {
			memcpy(&eight, s + i, sizeof(eight));
			len = sizeof(eight);
			if (!(eight & 0x8080808080808080u))
				continue;
		}
		len = utf8_len(s + i, n - i);
		if (!len)
			return false;
	}
	return true;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n,
		     const struct text_span *data, size_t n_data, unsigned flags,
		     struct ids *out)
{
	CLEANUP(job_done) struct job j = { t, { NULL, NULL, 0 }, BUF_INIT, out };
	size_t before = out->n;
	int r;

	if (n > TOKENIZER_MAX_TEXT)
		return -EFBIG;
	if (!spans_ok(data, n_data, n) || !text_ok(text, n))
		return -EINVAL;
	r = put_all(&j, text, n, data, n_data, flags);
	if (r < 0)
		out->n = before;
	return r;
}

uint32_t tokenizer_n_ids(const struct tokenizer *t)
{
	return t->vocab.n_ids;
}

bool tokenizer_id_known(const struct tokenizer *t, uint32_t id)
{
	return vocab_kind_of(&t->vocab, id) != VOCAB_NONE;
}

bool tokenizer_is_special(const struct tokenizer *t, uint32_t id)
{
	return vocab_kind_of(&t->vocab, id) == VOCAB_SPECIAL;
}

bool tokenizer_is_added(const struct tokenizer *t, uint32_t id)
{
	return vocab_kind_of(&t->vocab, id) >= VOCAB_ADDED;
}

const char *tokenizer_bytes(const struct tokenizer *t, uint32_t id, size_t *ret_n)
{
	return tokenizer_id_known(t, id) ? vocab_bytes(&t->vocab, id, ret_n) : NULL;
}

int tokenizer_find(const struct tokenizer *t, const char *text, uint32_t *ret_id)
{
	uint32_t id = added_get(&t->added, text, strlen(text));
	const struct vocab_slot *s;

	if (id == ADDED_NONE) {
		s = vocab_find(&t->vocab, text, strlen(text));
		if (!s)
			return -ENOENT;
		id = s->id;
	}
	*ret_id = id;
	return 0;
}
