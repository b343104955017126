/* tokenizer_fuzz.c - any bytes as tokenizer.json (up to a NUL) and tokenizer_config.json
 * (after it); what opens must encode and decode. */
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "worker/text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void use(const struct tokenizer *t, const uint8_t *data, size_t n)
{
	CLEANUP(ids_donep) struct ids ids = IDS_INIT;
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	int r = tokenizer_encode(t, (const char *)data, n, NULL, 0, TOK_SPECIAL, &ids);

	if (r < 0 && r != -EINVAL)
		abort();
	for (size_t i = 0; i < ids.n; i++)
		if (!tokenizer_id_known(t, ids.p[i]))
			abort();
	if (tokenizer_decode(t, ids.p, ids.n, false, &text) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const uint8_t *cut = n ? memchr(data, '\0', n) : NULL;
	size_t n_json = cut ? (size_t)(cut - data) : n;
	struct tokenizer *t = NULL;
	struct err e = { 0, "" };

	if (tokenizer_parse((const char *)data, n_json, cut ? (const char *)cut + 1 : NULL,
			    cut ? n - n_json - 1 : 0, &t, &e) < 0) {
		if (!e.text[0] || t)
			abort();
		return 0;
	}
	use(t, data, n);
	tokenizer_free(t);
	return 0;
}
