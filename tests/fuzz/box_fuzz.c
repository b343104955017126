/* box_fuzz.c - packets at hearthd's desk and at a worker: byte 0 picks the type, the rest is the
 * body under a header that fits; then the bytes once more as a whole packet. */
#include <stdint.h>
#include <string.h>

#include "proto/box_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void take(const uint8_t *packet, size_t n)
{
	struct box_msg m;
	struct err e;

	for (int side = BOX_FROM_CLIENT; side <= BOX_FROM_DAEMON; side++)
		if (box_unpack((enum box_side)side, packet, n, &m, &e) == 0)
			box_msg_done(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static uint8_t packet[BOX_MAX_PACKET];
	size_t body = n ? n - 1 : 0;

	if (n == 0 || n > sizeof(packet) - BOX_HEADER_BYTES)
		return 0;
	packet[0] = 'H';
	packet[1] = 'B';
	packet[2] = BOX_VERSION;
	packet[3] = data[0] % BOX_N_TYPES;
	for (int i = 0; i < 4; i++)
		packet[4 + i] = (uint8_t)(body >> (8 * i));
	memcpy(packet + BOX_HEADER_BYTES, data + 1, body);
	take(packet, BOX_HEADER_BYTES + body);
	take(data, n);
	return 0;
}
