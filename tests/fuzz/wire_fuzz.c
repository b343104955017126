/* wire_fuzz.c - byte 0 picks the type, the rest is the body: a header that fits is made, so
 * that the fuzzer spends its time behind it; then the bytes once more as header and body. */
#include <stdint.h>
#include <string.h>

#include "proto/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void take(const uint8_t *header, size_t n_header, const uint8_t *body, size_t n_body)
{
	struct wire_msg m = { 0 };
	struct err e;

	for (int side = 1; side <= 2; side++) {
		uint32_t seq = 0;

		if (wire_unpack((enum wire_side)side, &seq, header, n_header, body, n_body, &m, &e) == 0)
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
