/* doctor_rack.c - what doctor asks the router, and the configuration of this machine. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "ctl/doctor.h"
#include "ctl/program.h"
#include "ctl/table.h"
#include "lib/clock.h"
#include "lib/own.h"

enum { SILENT_MS = 3000, SLOW_MS = 500, CLOCK_S = 2, ANSWER_MS = 5000 };

/* ---- what the router says ------------------------------------------------------------------- */

static void look_at_boxes(const json_t *v, struct findings *f)
{
	const json_t *boxes = json_object_get(v, "boxes");

	for (size_t i = 0; i < json_array_size(boxes); i++) {
		const json_t *b = json_array_get(boxes, i), *models = json_object_get(b, "models");

		if (ctl_int(b, "heard_ms") > SILENT_MS)
			finding_add(f, "network", FINDING_ACT,
				    "ping it; systemctl status hearthd there",
				    "box %s has been silent for %lld ms", ctl_text(b, "name"),
				    (long long)ctl_int(b, "heard_ms"));
		for (size_t k = 0; k < json_array_size(models); k++) {
			const json_t *m = json_array_get(models, k);
			const char *state = ctl_text(m, "state"), *alias = ctl_text(m, "alias");
			char what[256];

			if (strcmp(state, "quarantined") != 0 && strcmp(state, "backoff") != 0)
				continue;
			snprintf(what, sizeof(what),
				 "mend that, then hearthctl -b %.60s load %.60s",
				 ctl_text(b, "name"), alias);
			finding_add(f, "models", FINDING_ACT, what, "%s on box %s is in %s: %s",
				    alias, ctl_text(b, "name"), state, ctl_text(m, "reason"));
		}
	}
}

static void look_at_targets(const json_t *v, struct findings *f)
{
	const json_t *workers = json_object_get(v, "workers");
	const json_t *upstreams = json_object_get(v, "upstreams");

	for (size_t i = 0; i < json_array_size(workers); i++) {
		const json_t *w = json_array_get(workers, i);
		const char *state = ctl_text(w, "state");

		if (!strcmp(state, "resting") || !strcmp(state, "lost"))
			finding_add(
				f, "models", FINDING_ACT,
				"the journal of its box says why: journalctl -u 'hearth-worker@*'",
				"worker %s is %s: it failed too often", ctl_text(w, "name"), state);
	}
	for (size_t i = 0; i < json_array_size(upstreams); i++) {
		const json_t *u = json_array_get(upstreams, i);

		if (strcmp(ctl_text(u, "state"), "up") != 0)
			finding_add(f, "network", FINDING_ACT,
				    "curl -I its url from the router's machine",
				    "upstream %s (%s) is %s", ctl_text(u, "name"),
				    ctl_text(u, "url"), ctl_text(u, "state"));
	}
}

/* An alias whose whole chain is local, and nobody has its models. */
static bool served(const json_t *v, const char *model)
{
	const json_t *workers = json_object_get(v, "workers"), *boxes = json_object_get(v, "boxes");

	for (size_t i = 0; i < json_array_size(workers); i++)
		if (!strcmp(ctl_text(json_array_get(workers, i), "model"), model))
			return true;
	for (size_t i = 0; i < json_array_size(boxes); i++) {
		const json_t *models = json_object_get(json_array_get(boxes, i), "models");

		for (size_t k = 0; k < json_array_size(models); k++)
			if (!strcmp(ctl_text(json_array_get(models, k), "alias"), model))
				return true;
	}
	return false;
}

static void look_at_aliases(const json_t *v, struct findings *f)
{
	const json_t *list = json_object_get(v, "aliases");

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *a = json_array_get(list, i), *chain = json_object_get(a, "chain");
		bool any = false;

		for (size_t k = 0; k < json_array_size(chain) && !any; k++) {
			const json_t *step = json_array_get(chain, k);

			any = strcmp(ctl_text(step, "kind"), "worker") != 0 ||
			      served(v, ctl_text(step, "name"));
		}
		if (!any)
			finding_add(f, "models", FINDING_ACT,
				    "start a worker of that name, or a box that has it; hearthctl "
				    "status",
				    "nobody could answer for alias %s", ctl_text(a, "name"));
	}
}

static void look_at_time(const json_t *v, uint64_t took_ms, struct findings *f)
{
	double theirs = 0, off;
	struct timespec t;

	if (jx_double(json_object_get(v, "time"), &theirs) < 0)
		return;
	clock_gettime(CLOCK_REALTIME, &t);
	off = theirs + (double)took_ms / 2000 - ((double)t.tv_sec + (double)t.tv_nsec / 1e9);
	if (off > CLOCK_S || off < -CLOCK_S)
		finding_add(f, "clock", FINDING_ACT, "timedatectl on both machines",
			    "the router's clock is %.1f s %s of this one", off < 0 ? -off : off,
			    off < 0 ? "behind" : "ahead");
}

void doctor_rack(const struct ctl *given, struct findings *f)
{
	JX_OWNED json_t *v = NULL;
	struct ctl c = *given;
	uint64_t began = clock_ns(), took_ms;
	struct err e;
	int r;

	c.limit_ms = ANSWER_MS;
	r = ctl_ask(&c, "/admin/status", NULL, NULL, &v, &e);
	took_ms = (clock_ns() - began) / NS_PER_MS;
	if (r < 0) {
		finding_add(f, "network", FINDING_ACT,
			    r == -EACCES ? "give a key of the role admin with --key-file" :
					   "systemctl status hearth-router there; is --url right?",
			    "the router at %s: %s", c.url, e.text);
		return;
	}
	finding_add(f, "network", took_ms > SLOW_MS ? FINDING_NOTE : FINDING_OK, NULL,
		    "the router at %s answers, in %llu ms: %zu workers, %zu boxes", c.url,
		    (unsigned long long)took_ms, json_array_size(json_object_get(v, "workers")),
		    json_array_size(json_object_get(v, "boxes")));
	look_at_time(v, took_ms, f);
	look_at_boxes(v, f);
	look_at_targets(v, f);
	look_at_aliases(v, f);
}

/* ---- configuration ------------------------------------------------------------------ */

static void look_at_files(const struct ctl *c, struct findings *f)
{
	char files[PROGRAM_MAX_CONFIG][PATH_MAX];
	size_t n = program_list_config(c->etc, files);

	if (!n)
		finding_add(f, "configuration", FINDING_NOTE, NULL, "there is none in %s", c->etc);
	for (size_t i = 0; i < n; i++) {
		CLEANUP(buf_donep) struct buf said = BUF_INIT;
		struct err e;
		int r = program_check_config(files[i], &said, &e);

		if (r < 0)
			finding_add(f, "configuration", FINDING_NOTE, NULL, "%s: not looked at: %s",
				    files[i], e.text);
		else if (r)
			finding_add(f, "configuration", FINDING_ACT,
				    "mend the line; what runs goes on with what it has", "%s",
				    said.n ? said.p : files[i]);
		else
			finding_add(f, "configuration", FINDING_OK, NULL, "%s", files[i]);
	}
}

/* A secret that everybody on the machine can read is none. */
static void look_at_secret(const char *path, struct findings *f)
{
	char what[PATH_MAX + 32];
	struct stat st;

	if (stat(path, &st) < 0 || !(st.st_mode & 0007))
		return;
	snprintf(what, sizeof(what), "chmod o= %s", path);
	finding_add(f, "configuration", FINDING_ACT, what,
		    "%s holds a secret, and everybody may read or "
		    "write it (mode %o)",
		    path, (unsigned)st.st_mode & 07777);
}

static void look_at_secrets(const struct ctl *c, struct findings *f)
{
	static const char *const names[] = { "keys", "curve", "curve-secret" };
	JX_OWNED json_t *v = NULL;
	const json_t *list;
	struct err e;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/%s", c->etc, names[i]);
		look_at_secret(path, f);
	}
	if (ctl_ask(c, "/admin/config", NULL, NULL, &v, &e) < 0)
		return;
	if (ctl_int(v, "keys") && !ctl_int(v, "admin_keys"))
		finding_add(f, "configuration", FINDING_NOTE,
			    "hearthctl keys add --role admin NAME, if hearthctl shall work from "
			    "elsewhere",
			    "none of the router's keys has the role admin");
	list = json_object_get(v, "values");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *o = json_array_get(list, i);
		const char *key = ctl_text(o, "key"), *value = ctl_text(o, "value");

		if ((!strcmp(key, "keys_file") || !strcmp(key, "curve_file") ||
		     !strcmp(key, "key_file")) &&
		    *value == '/' &&
		    (strncmp(value, c->etc, strlen(c->etc)) != 0 || !strcmp(key, "key_file")))
			look_at_secret(value, f);
	}
}

void doctor_config(const struct ctl *given, struct findings *f)
{
	JX_OWNED json_t *v = NULL;
	struct ctl c = *given;
	struct err e;
	int r;

	c.limit_ms = ANSWER_MS;
	look_at_files(&c, f);
	look_at_secrets(&c, f);
	r = ctl_ask(&c, "/admin/config/diff", NULL, NULL, &v, &e);
	if (r == -EBADMSG)
		finding_add(f, "configuration", FINDING_ACT,
			    "mend it, then hearthctl config reload",
			    "a reload or restart of the router would fail: %s", e.text);
	else if (r == 0 && (json_array_size(json_object_get(v, "changes")) ||
			    json_array_size(json_object_get(v, "keys_added")) ||
			    json_array_size(json_object_get(v, "keys_removed")) ||
			    json_array_size(json_object_get(v, "key_roles_changed"))))
		finding_add(f, "configuration", FINDING_NOTE,
			    "hearthctl config diff, then hearthctl config reload",
			    "the router does not run with what its files say");
}
