/* svc.c - see svc.h.  The only door to libsystemd's notify calls. */
#include "config.h"
#include "lib/svc.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>

static void notify(const char *state)
{
	(void)sd_notify(0, state);
}

static uint64_t watchdog_us(void)
{
	uint64_t us = 0;

	return sd_watchdog_enabled(0, &us) > 0 ? us : 0;
}
#else
static void notify(const char *state)
{
	(void)state;
}

static uint64_t watchdog_us(void)
{
	return 0;
}
#endif

void svc_ready(void)
{
	notify("READY=1");
}

void svc_stopping(void)
{
	notify("STOPPING=1");
}

void svc_reloading(void)
{
	char s[80];
	struct timespec t;

	/* systemd >= 253 wants the time beside it (Type=notify-reload) */
	clock_gettime(CLOCK_MONOTONIC, &t);
	snprintf(s, sizeof(s), "RELOADING=1\nMONOTONIC_USEC=%llu",
		 (unsigned long long)t.tv_sec * 1000000ULL + (unsigned long long)t.tv_nsec / 1000);
	notify(s);
}

void svc_status(const char *fmt, ...)
{
	char s[256] = "STATUS=";
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s + 7, sizeof(s) - 7, fmt, ap);
	va_end(ap);
	notify(s);
}

void svc_watchdog(void)
{
	notify("WATCHDOG=1");
}

void svc_extend_start(uint64_t usec)
{
	char s[64];

	snprintf(s, sizeof(s), "EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)usec);
	notify(s);
}

uint32_t svc_watchdog_ms(void)
{
	return (uint32_t)(watchdog_us() / 2000);
}
