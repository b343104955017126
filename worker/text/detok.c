/* detok.c - see detok.h. */
#include "worker/text/detok.h"

#include "lib/utf8.h"

#define REPLACEMENT "\xef\xbf\xbd"

void detok_init(struct detok *d, const struct tokenizer *t, bool skip_special)
{
	*d = (struct detok){ .t = t, .skip_special = skip_special };
}

int detok_finish(struct detok *d, struct buf *out)
{
	if (!d->n_held)
		return 0;
	d->n_held = 0;
	return buf_puts(out, REPLACEMENT);
}

/* Tries to complete the held character; answers how many bytes of s it took. */
static size_t complete(struct detok *d, const char *s, size_t n, struct buf *out)
{
	bool incomplete;
	size_t i = 0;

	while (d->n_held && i < n) {
		d->held[d->n_held] = s[i];
		if (utf8_len(d->held, d->n_held + 1u)) {
			buf_put(out, d->held, d->n_held + 1u);
			d->n_held = 0;
			return i + 1;
		}
		utf8_bad_prefix(d->held, d->n_held + 1u, &incomplete);
		if (!incomplete) {	/* s[i] begins something of its own */
			detok_finish(d, out);
			return i;
		}
		d->n_held++;
		i++;
	}
	return i;
}

static void put_bytes(struct detok *d, const char *s, size_t n, struct buf *out)
{
	size_t from, i, len;
	bool incomplete;

	i = from = complete(d, s, n, out);
	while (i < n) {
		len = utf8_len(s + i, n - i);
		if (len) {
			i += len;
			continue;
		}
		buf_put(out, s + from, i - from);
		len = utf8_bad_prefix(s + i, n - i, &incomplete);
		if (incomplete) {
			for (; i < n; i++)
				d->held[d->n_held++] = s[i];
			return;
		}
		buf_puts(out, REPLACEMENT);
		from = i += len;
	}
	buf_put(out, s + from, n - from);
}

int detok_push(struct detok *d, uint32_t id, struct buf *out)
{
	const char *s;
	size_t n;

	s = tokenizer_bytes(d->t, id, &n);
	if (!s || (d->skip_special && tokenizer_is_special(d->t, id)))
		return 0;
	if (tokenizer_is_added(d->t, id)) {
		detok_finish(d, out);
		buf_put(out, s, n);
	} else {
		put_bytes(d, s, n, out);
	}
	return buf_ok(out) ? 0 : -ENOMEM;
}

int tokenizer_decode(const struct tokenizer *t, const uint32_t *ids, size_t n, bool skip_special,
		     struct buf *out)
{
	struct detok d;

	detok_init(&d, t, skip_special);
	for (size_t i = 0; i < n; i++)
		if (detok_push(&d, ids[i], out) < 0)
			return -ENOMEM;
	return detok_finish(&d, out);
}
