/* svc.c - see svc.h.  The only door to libsystemd's notify calls. */
#include "config.h"
#include "lib/svc.h"

#include <dirent.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

int svc_sockets(int *ret_first)
{
	int n = sd_listen_fds(0);

	*ret_first = SD_LISTEN_FDS_START;
	return n > 0 ? n : 0;
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

int svc_sockets(int *ret_first)
{
	*ret_first = -1;
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
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static char last[256];
	char s[256] = "STATUS=";
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s + 7, sizeof(s) - 7, fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&lock);
	if (strcmp(s, last)) {
		memcpy(last, s, sizeof(last));
		notify(s);
	}
	pthread_mutex_unlock(&lock);
}

void svc_watchdog(void)
{
	notify("WATCHDOG=1");
}

void svc_extend(uint64_t usec)
{
	char s[64];

	snprintf(s, sizeof(s), "EXTEND_TIMEOUT_USEC=%llu", (unsigned long long)usec);
	notify(s);
}

uint32_t svc_watchdog_ms(void)
{
	return (uint32_t)(watchdog_us() / 2000);
}

static const char prefix[] = "credential:";

/* Without its mount a unit's folder of credentials is there and empty, or is not there. */
static bool has_entries(const char *path)
{
	DIR *d = opendir(path);
	const struct dirent *entry = NULL;

	while (d && (entry = readdir(d)) && entry->d_name[0] == '.')
		;
	if (d)
		closedir(d);
	return entry != NULL;
}

bool svc_can_look(const char *value)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");

	return strncmp(value, prefix, sizeof(prefix) - 1) != 0 || (dir && has_entries(dir));
}

int svc_path(const char *value, char *ret, size_t n, struct err *e)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	const char *name = value;
	struct stat st;
	int len;

	if (!strncmp(value, prefix, sizeof(prefix) - 1)) {
		name = value + sizeof(prefix) - 1;
		if (!*name || *name == '.' || strchr(name, '/'))
			return err_set(e, -EINVAL, "%s: not the name of a credential", value);
		if (!dir)
			return err_set(e, -ENOENT, "%s: the service manager gave no credentials",
				       value);
		len = snprintf(ret, n, "%s/%s", dir, name);
	} else {
		len = snprintf(ret, n, "%s", value);
	}
	if (len < 0 || (size_t)len >= n)
		return err_set(e, -EINVAL, "%.64s...: longer than %zu bytes", value, n - 1);
	/* SetCredential= puts an empty one where a unit's LoadCredential= found nothing */
	if (name != value && (stat(ret, &st) < 0 || st.st_size == 0))
		return err_set(e, -ENOENT, "%s: there is no such credential, or it is empty",
			       value);
	return 0;
}
