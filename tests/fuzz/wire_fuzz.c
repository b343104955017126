/* wire_fuzz.c - byte 0 picks the type, the rest is the body: a header that fits is made, so
 * that the fuzzer spends its time behind it; then the bytes once more as header and body.
 * What unpacks twice must pack to the same bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "proto/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void pack_again(enum wire_side side, const struct wire_msg *m)
{
	CLEANUP(buf_donep) struct buf h = BUF_INIT, b = BUF_INIT, h2 = BUF_INIT, b2 = BUF_INIT;
	struct wire_msg again = { 0 };
	uint32_t seq = 0;

	/* protobuf-c keeps unknown fields: they may grow past the limit, and a field number
	 * of 0, which it reads in two bytes, it refuses in the one that it writes */
	if (wire_pack(m->type, 0, m->body.any, &h, &b) < 0 ||
	    wire_unpack(side, &seq, h.p, h.n, b.p, b.n, &again, NULL) < 0)
		return;
	if (seq != 1 ||
	    wire_pack(again.type, 0, again.body.any, &h2, &b2) < 0 || b.n != b2.n ||
	    (b.n && memcmp(b.p, b2.p, b.n) != 0))
		abort();
	wire_msg_done(&again);
}

static void take(const uint8_t *header, size_t n_header, const uint8_t *body, size_t n_body)
{
	struct wire_msg m = { 0 };
	struct err e;

	for (int side = 1; side <= 2; side++) {
		uint32_t seq = 0;

		if (wire_unpack((enum wire_side)side, &seq, header, n_header, body, n_body, &m,
				&e) < 0)
			continue;
		pack_again((enum wire_side)side, &m);
		wire_msg_done(&m);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	uint8_t h[WIRE_HEADER_BYTES] = { 'H', 'W', WIRE_VERSION };
	uint32_t len;

	if (n == 0)
		return 0;
	h[3] = data[0] % WIRE_N_TYPES;
	len = (uint32_t)(n - 1);
	for (int i = 0; i < 4; i++)
		h[8 + i] = (uint8_t)(len >> (8 * i));
	take(h, sizeof(h), data + 1, n - 1);
	if (n > WIRE_HEADER_BYTES)
		take(data, WIRE_HEADER_BYTES, data + WIRE_HEADER_BYTES, n - WIRE_HEADER_BYTES);
	return 0;
}
