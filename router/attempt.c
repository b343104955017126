/* attempt.c - see attempt.h. */
#include "router/attempt.h"

const char *attempt_fault_name(enum attempt_fault f)
{
	static const char *const names[] = {
		[FAULT_REQUEST] = "bad_request", [FAULT_REJECTED] = "rejected",
		[FAULT_CONTEXT] = "context_length", [FAULT_UNSUPPORTED] = "unsupported",
		[FAULT_BUSY] = "busy", [FAULT_REFUSED] = "refused", [FAULT_LOST] = "lost",
		[FAULT_TIMEOUT] = "timeout", [FAULT_SERVER] = "server_error",
		[FAULT_GARBAGE] = "garbage",
	};

	return names[f];
}
