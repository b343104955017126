/* serve_guard.c - see serve_guard.h. */
#include "worker/serve_guard.h"

#include <errno.h>
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#include "lib/events.h"
#include "lib/log.h"
#include "lib/svc.h"
#include "worker/xid.h"

enum { GRACE_MS = 3000, XID_S = 300 };

/* The last line of a worker is what hearthd shows as the reason of its end. */
static void say(const char *alias, const char *text)
{
	char line[768], xid[200];

	if (xid_last(XID_S, xid, sizeof(xid)))
		snprintf(line, sizeof(line), "%s; the kernel says: %s", text, xid);
	else
		snprintf(line, sizeof(line), "%s", text);
	svc_status("%s", line);
	log_event(LOG_ERROR, EVENT_DEVICE_LOST, LOG_FIELDS({ "ALIAS", alias }, { "REASON", line }),
		  "%s", line);
}

static void on_hang(void *ctx, const char *text)
{
	say(ctx, text);
}

static void leave(void *ctx)
{
	(void)ctx;
	_exit(EX_SOFTWARE);
}

int serve_guard(struct engine *engine, const char *alias, uint32_t step_s, uint32_t no_numbers,
		struct err *e)
{
	const struct engine_guard g = { .step_ms = step_s * 1000,
					.grace_ms = GRACE_MS,
					.no_numbers = no_numbers,
					.ctx = (void *)(uintptr_t)alias,
					.say = on_hang,
					.leave = leave };
	int r = engine_guard(engine, &g);

	return r < 0 ? err_set(e, r, "no thread to guard the device: %d", r) : 0;
}

int serve_guard_end(struct engine *engine, const char *alias)
{
	struct err why;
	int r = engine_why_lost(engine, &why);

	if (!r)
		return 0;
	if (r == -ETIMEDOUT)
		_exit(EX_SOFTWARE);	/* on_hang() has said it */
	say(alias, why.text);
	return EX_SOFTWARE;
}
