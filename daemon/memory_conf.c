/* memory_conf.c - see memory_conf.h. */
#include "daemon/memory_conf.h"

#include <stdlib.h>
#include <string.h>

#include "lib/bytes.h"
#include "lib/own.h"

#define RESERVE      (12 * BYTES_GIB)
#define RESERVE_PART 8		/* of a box that is smaller than 96 GiB */

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static uint64_t mib(const struct conf *c, const char *key)
{
	return (uint64_t)conf_int(c, "memory", NULL, key) << 20;
}

static uint32_t u32(const struct conf *c, const char *key)
{
	return (uint32_t)conf_int(c, "memory", NULL, key);
}

static int copy(char **ret, const char *text, struct err *e)
{
	*ret = strdup(text);
	return *ret ? 0 : no_memory(e);
}

/* systemd's own rule for names of units, with the suffix that we can stop. */
static bool unit_ok(const char *s)
{
	static const char ok[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				 ":-_.\\@";
	const char *dot = strrchr(s, '.');

	return strspn(s, ok) == strlen(s) && dot && dot != s &&
	       (!strcmp(dot, ".service") || !strcmp(dot, ".scope") || !strcmp(dot, ".slice") ||
		!strcmp(dot, ".target"));
}

static int load_workload(const struct conf *c, const char *name, struct workload_conf *w,
			 struct err *e)
{
	const char *unit = conf_text(c, "workload", name, "unit");
	const char *size = conf_text(c, "workload", name, "memory");
	const char *aliases = conf_text(c, "workload", name, "stop-for");

	if (!unit || !unit_ok(unit))
		return err_set(e, -EINVAL,
			       "[workload %s]: unit must name a service, scope, slice or "
			       "target of systemd's",
			       name);
	if (!size || bytes_parse(size, &w->memory) < 0)
		return err_set(e, -EINVAL, "[workload %s]: memory must be a size, as 14G", name);
	if (!aliases)
		return err_set(e, -EINVAL,
			       "[workload %s]: stop-for is missing, so it would never be "
			       "stopped",
			       name);
	w->restart = conf_bool(c, "workload", name, "restart");
	if (copy(&w->name, name, e) < 0 || copy(&w->unit, unit, e) < 0)
		return -ENOMEM;
	return copy(&w->stop_for, aliases, e);
}

static int load_workloads(const struct conf *c, struct memory_conf *m, struct err *e)
{
	size_t n = 0;
	int r = 0;

	while (conf_name(c, "workload", n))
		n++;
	m->workloads = calloc(n ? n : 1, sizeof(*m->workloads));
	if (!m->workloads)
		return no_memory(e);
	while (m->n_workloads < n && r == 0) {
		size_t i = m->n_workloads++;

		r = load_workload(c, conf_name(c, "workload", i), &m->workloads[i], e);
	}
	return r;
}

static int check(const struct memory_conf *m, struct err *e)
{
	if (m->yellow && m->red && m->red >= m->yellow)
		return err_set(e, -EINVAL, "memory.red_mib must be below memory.yellow_mib");
	if (m->reserve && (m->yellow > m->reserve || m->red > m->reserve))
		return err_set(e, -EINVAL, "memory.yellow_mib and red_mib must not be above "
					   "memory.reserve_mib: a full grant would be an alarm");
	return 0;
}

static void load_policy(const struct conf *c, struct memory_conf *m)
{
	const char *drop = conf_text(c, "memory", NULL, "drop_caches");

	m->watch_ms = u32(c, "watch_ms");
	m->reserve = mib(c, "reserve_mib");
	m->yellow = mib(c, "yellow_mib");
	m->red = mib(c, "red_mib");
	m->policy = (struct broker_policy){
		.gpu_reserve = mib(c, "gpu_reserve_mib"),
		.limit = mib(c, "limit_mib"),
		.yellow_psi = u32(c, "yellow_pressure"),
		.red_psi = u32(c, "red_pressure"),
		.calm_ms = u32(c, "calm_ms"),
		.back_ms = u32(c, "back_s") * 1000,
		.drop = !strcmp(drop, "always") ? DROP_ALWAYS :
			!strcmp(drop, "never") ? DROP_NEVER : DROP_AUTO,
		.judge = !strcmp(conf_text(c, "memory", NULL, "judge"), "free") ? JUDGE_FREE :
			 JUDGE_AVAILABLE,
	};
}

static void memory_conf_freep(struct memory_conf **m)
{
	memory_conf_free(*m);
}

static int socket_in(const struct conf *c, const char *run_dir, char **ret, struct err *e)
{
	const char *given = conf_text(c, "memory", NULL, "socket");
	char path[200];

	snprintf(path, sizeof(path), "%.150s/memory", run_dir);
	return copy(ret, given ? given : path, e);
}

int memory_conf_load(const struct conf *c, const char *run_dir, struct memory_conf **ret,
		     struct err *e)
{
	CLEANUP(memory_conf_freep) struct memory_conf *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return no_memory(e);
	load_policy(c, m);
	r = check(m, e);
	if (r == 0)
		r = socket_in(c, run_dir, &m->socket, e);
	if (r == 0)
		r = copy(&m->drop_socket, conf_text(c, "memory", NULL, "drop_socket"), e);
	if (r == 0)
		r = copy(&m->state_dir, run_dir, e);
	if (r == 0)
		r = load_workloads(c, m, e);
	if (r < 0)
		return r;
	*ret = TAKE(m);
	return 0;
}

struct memory_conf *memory_conf_free(struct memory_conf *m)
{
	if (!m)
		return NULL;
	for (size_t i = 0; i < m->n_workloads; i++) {
		free(m->workloads[i].name);
		free(m->workloads[i].unit);
		free(m->workloads[i].stop_for);
	}
	free(m->workloads);
	free(m->socket);
	free(m->drop_socket);
	free(m->state_dir);
	free(m);
	return NULL;
}

struct broker_policy memory_conf_policy(const struct memory_conf *m, uint64_t total)
{
	struct broker_policy p = m->policy;
	uint64_t size = p.limit && p.limit < total ? p.limit : total;

	p.reserve = m->reserve ? m->reserve :
		    size / RESERVE_PART < RESERVE ? size / RESERVE_PART : RESERVE;
	p.yellow = m->yellow ? m->yellow : p.reserve / 2;
	p.red = m->red ? m->red : p.reserve / 4;
	return p;
}

bool workload_conf_for(const struct workload_conf *w, const char *alias)
{
	size_t n = strlen(alias);

	for (const char *p = w->stop_for; *p;) {
		size_t len;

		p += strspn(p, " \t\n,");
		len = strcspn(p, " \t\n,");
		if ((len == 1 && *p == '*') || (len && len == n && !strncmp(p, alias, n)))
			return true;
		p += len;
	}
	return false;
}
