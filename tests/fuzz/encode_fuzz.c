/* encode_fuzz.c - any bytes as text and as ids, with the small tokenizer of the unit tests.
 *
 * The first byte chooses the flags and a data span.  Always true: text that NFC leaves
 * alone comes back from its ids; a stream says what the batch says; without spans
 * and flags both ways of asking give the same.
 *
 * Run from the top of the source (tests/fuzz/run.sh does).
 */
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "lib/utf8.h"
#include "worker/text/chars.h"
#include "worker/text/detok.h"
#include "worker/text/nfc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct tokenizer *small;
static uint8_t table[CHARS_N];

static void open_once(void)
{
	struct err e;

	if (small)
		return;
	if (tokenizer_open("tests/golden/tokenizer", &small, &e) < 0)
		abort();
	chars_fill(table, true);
	nfc_fill(table);
}

static void encode(unsigned choice, const char *s, size_t n)
{
	CLEANUP(ids_donep) struct ids ids = IDS_INIT;
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	struct text_span span = { n * (choice >> 4) / 16, n };
	int r = tokenizer_encode(small, s, n, &span, choice & 1, choice & 2 ? TOK_SPECIAL : 0,
				 &ids);

	if (r != (utf8_ok(s, n) ? 0 : -EINVAL) || ids.n > 3 * n)
		abort();
	if (r < 0)
		return;
	if (tokenizer_decode(small, ids.p, ids.n, false, &text) < 0 || !utf8_ok(text.p, text.n))
		abort();
	if (nfc_quick(table, s, n) == n && (text.n != n || (n && memcmp(text.p, s, n) != 0)))
		abort();
}

static void decode(bool skip, const uint8_t *p, size_t n)
{
	CLEANUP(ids_donep) struct ids ids = IDS_INIT;
	CLEANUP(buf_donep) struct buf batch = BUF_INIT, stream = BUF_INIT;
	struct detok d;

	detok_init(&d, small, skip);
	for (size_t i = 0; i + 1 < n; i += 2) {
		uint32_t id = (p[i] | (uint32_t)p[i + 1] << 8) & 0x3ff;

		if (ids_push(&ids, id) < 0 || detok_push(&d, id, &stream) < 0)
			abort();
		if (!utf8_ok(stream.p, stream.n))
			abort();
	}
	detok_finish(&d, &stream);
	tokenizer_decode(small, ids.p, ids.n, skip, &batch);
	if (batch.n != stream.n || (batch.n && memcmp(batch.p, stream.p, batch.n) != 0) ||
	    !utf8_ok(batch.p, batch.n))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	open_once();
	if (!n)
		return 0;
	encode(data[0], (const char *)data + 1, n - 1);
	decode(data[0] & 1, data + 1, n - 1);
	return 0;
}
