/* memory.c - hearthctl memory: the box's memory as its hearthd sees it, in one table. */
#include <inttypes.h>
#include <libsmartcols.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "ctl/doctor.h"
#include "lib/bytes.h"
#include "lib/json.h"
#include "lib/own.h"
#include "proto/box_wire.h"

enum { ANSWER_MS = 10000, N_COLUMNS = 10 };

enum column { WHAT, NAME, STATE, SIZE, WEIGHTS, KV, STATES, WORK, OTHER, TAKEN };

static const struct {
	const char *title;
	bool right;
} columns[N_COLUMNS] = {
	{ "WHAT", false }, { "NAME", false }, { "STATE", false }, { "SIZE", true },
	{ "WEIGHTS", true }, { "KV", true }, { "STATES", true }, { "WORK", true },
	{ "OTHER", true }, { "TAKEN", true },
};

static void box_msg_donep(struct box_msg *m)
{
	box_msg_done(m);
}

int ctl_ask_memory(const struct ctl *c, struct box_msg *ret, struct err *e)
{
	const char *path = c->hearthd ? c->hearthd : BOX_SOCKET;
	CLEANUP(closep) int fd = box_connect(path);
	Hb__Ask a = HB__ASK__INIT;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int r;

	if (fd < 0)
		return err_set(e, fd, "hearthd at %s: %s%s", path, strerror(-fd),
			       fd == -EACCES ? "; root and the group hearth may ask" : "");
	r = box_send(fd, BOX_ASK, &a.base);
	if (r == 0 && poll(&p, 1, ANSWER_MS) == 0)
		r = -ETIMEDOUT;
	if (r < 0)
		return err_set(e, r, "hearthd at %s: %s", path, strerror(-r));
	r = box_recv(fd, BOX_FROM_DAEMON, ret, e);
	if (r < 0)
		return err_prefix(e, r, "hearthd at %s", path);
	if (ret->type == BOX_MEMORY)
		return 0;
	box_msg_done(ret);
	return err_set(e, -EPROTO, "hearthd at %s answers something else", path);
}

static const char *level_name(Hb__LevelKind l)
{
	return l == HB__LEVEL_KIND__RED ? "red" : l == HB__LEVEL_KIND__YELLOW ? "yellow" : "green";
}

/* ---- the table ------------------------------------------------------------------------- */

static struct libscols_line *row(struct libscols_table *t, const char *what, const char *name,
				 const char *state)
{
	struct libscols_line *l = scols_table_new_line(t, NULL);

	if (!l || scols_line_set_data(l, WHAT, what) < 0 ||
	    scols_line_set_data(l, NAME, name) < 0 || scols_line_set_data(l, STATE, state) < 0)
		return NULL;
	return l;
}

/* Zero is left empty: most rows have no parts. */
static void size(struct libscols_line *l, enum column c, uint64_t bytes)
{
	if (l && bytes)
		(void)scols_line_set_data(l, c, BYTES(bytes));
}

static void box_rows(struct libscols_table *t, const Hb__Memory *m)
{
	char drop[48];

	snprintf(drop, sizeof(drop), "drop_caches=%.20s", m->drop_caches);
	size(row(t, "box", "total", level_name(m->level)), SIZE, m->total);
	size(row(t, "box", "free", ""), SIZE, m->free);
	size(row(t, "box", "available", ""), SIZE, m->available);
	size(row(t, "box", "cache", drop), SIZE, m->droppable);
	size(row(t, "box", "reserve", "never granted"), SIZE, m->reserve);
	size(row(t, "box", "owed", "granted, not taken"), SIZE, m->owed);
	size(row(t, "box", "awaited", "of ended workers"), SIZE, m->awaited);
	size(row(t, "box", "swap", "used"), SIZE, m->swap_used);
	size(row(t, "box", "usable", "can be granted"), SIZE, m->usable);
}

static void gpu_rows(struct libscols_table *t, const Hb__Memory *m)
{
	for (size_t i = 0; i < m->n_gpu; i++) {
		char name[24];
		struct libscols_line *l;

		snprintf(name, sizeof(name), "%" PRIu32, m->gpu[i]->index);
		l = row(t, "gpu", name, "own memory");
		size(l, SIZE, m->gpu[i]->total);
		size(l, TAKEN, m->gpu[i]->total - m->gpu[i]->free);
	}
}

static void lease_rows(struct libscols_table *t, const Hb__Memory *m)
{
	for (size_t i = 0; i < m->n_lease; i++) {
		const Hb__LeaseRow *r = m->lease[i];
		struct libscols_line *l;
		char name[160];

		snprintf(name, sizeof(name), "%.127s (%" PRIu32 ")", r->alias, r->pid);
		l = row(t, "worker", name, r->state);
		size(l, SIZE,
		     r->weights + r->kv + r->states + r->workspace + r->graphs + r->pinned);
		size(l, WEIGHTS, r->weights);
		size(l, KV, r->kv);
		size(l, STATES, r->states);
		size(l, WORK, r->workspace);
		size(l, OTHER, r->graphs + r->pinned);
		size(l, TAKEN, r->taken);
	}
}

static void other_rows(struct libscols_table *t, const Hb__Memory *m)
{
	for (size_t i = 0; i < m->n_alias; i++) {
		const Hb__AliasRow *r = m->alias[i];
		char state[160];

		if (r->short_by)
			snprintf(state, sizeof(state), "%.60s, lacks %s", r->state,
				 BYTES(r->short_by));
		else
			snprintf(state, sizeof(state), "%.60s", r->state);
		size(row(t, "alias", r->alias, state), SIZE, r->need);
	}
	for (size_t i = 0; i < m->n_workload; i++)
		size(row(t, "workload", m->workload[i]->unit, m->workload[i]->state), SIZE,
		     m->workload[i]->bytes);
	for (size_t i = 0; i < m->n_holder; i++)
		size(row(t, "holder", m->holder[i]->name, "not ours"), SIZE, m->holder[i]->bytes);
}

static int print_table(const Hb__Memory *m)
{
	struct libscols_table *t = scols_new_table();

	if (!t)
		return -ENOMEM;
	for (int i = 0; i < N_COLUMNS; i++)
		if (!scols_table_new_column(t, columns[i].title, 0,
					    columns[i].right ? SCOLS_FL_RIGHT : 0)) {
			scols_unref_table(t);
			return -ENOMEM;
		}
	box_rows(t, m);
	gpu_rows(t, m);
	lease_rows(t, m);
	other_rows(t, m);
	scols_print_table(t);
	scols_unref_table(t);
	for (size_t i = 0; i < m->n_note; i++)
		printf("%s%s\n", i ? "" : "\n", m->note[i]);
	return 0;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void put(json_t *o, const char *key, uint64_t x)
{
	json_object_set_new(o, key, jx_int_new((int64_t)x));
}

static void put_text(json_t *o, const char *key, const char *s)
{
	json_object_set_new(o, key, jx_str_new(s, strlen(s)));
}

static json_t *lease_json(const Hb__LeaseRow *r)
{
	json_t *o = json_object();

	put_text(o, "alias", r->alias);
	put(o, "pid", r->pid);
	put_text(o, "state", r->state);
	put(o, "weights", r->weights);
	put(o, "kv", r->kv);
	put(o, "states", r->states);
	put(o, "workspace", r->workspace);
	put(o, "graphs", r->graphs);
	put(o, "pinned", r->pinned);
	put(o, "taken", r->taken);
	if (r->gpu >= 0)
		put(o, "gpu", (uint64_t)r->gpu);
	return o;
}

static json_t *list(json_t *o, const char *key)
{
	json_t *a = json_array();

	json_object_set_new(o, key, a);
	return a;
}

static void put_lists(json_t *o, const Hb__Memory *m)
{
	json_t *workers = list(o, "workers"), *holders = list(o, "holders");
	json_t *aliases = list(o, "aliases"), *workloads = list(o, "workloads");
	json_t *gpus = list(o, "gpus"), *notes = list(o, "notes"), *x;

	for (size_t i = 0; i < m->n_lease; i++)
		json_array_append_new(workers, lease_json(m->lease[i]));
	for (size_t i = 0; i < m->n_holder; i++) {
		json_array_append_new(holders, x = json_object());
		put_text(x, "name", m->holder[i]->name);
		put(x, "bytes", m->holder[i]->bytes);
	}
	for (size_t i = 0; i < m->n_alias; i++) {
		json_array_append_new(aliases, x = json_object());
		put_text(x, "alias", m->alias[i]->alias);
		put_text(x, "state", m->alias[i]->state);
		put(x, "need", m->alias[i]->need);
		put(x, "short_by", m->alias[i]->short_by);
	}
	for (size_t i = 0; i < m->n_workload; i++) {
		json_array_append_new(workloads, x = json_object());
		put_text(x, "name", m->workload[i]->name);
		put_text(x, "unit", m->workload[i]->unit);
		put_text(x, "state", m->workload[i]->state);
		put(x, "bytes", m->workload[i]->bytes);
	}
	for (size_t i = 0; i < m->n_gpu; i++) {
		json_array_append_new(gpus, x = json_object());
		put(x, "index", m->gpu[i]->index);
		put(x, "total", m->gpu[i]->total);
		put(x, "free", m->gpu[i]->free);
	}
	for (size_t i = 0; i < m->n_note; i++)
		json_array_append_new(notes, jx_str_new(m->note[i], strlen(m->note[i])));
}

static int print_json(const Hb__Memory *m)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	JX_OWNED json_t *o = json_object();

	put(o, "total", m->total);
	put(o, "free", m->free);
	put(o, "available", m->available);
	put(o, "cached", m->cached);
	put(o, "droppable", m->droppable);
	put(o, "reserve", m->reserve);
	put(o, "owed", m->owed);
	put(o, "usable", m->usable);
	put(o, "awaited", m->awaited);
	put(o, "swap_used", m->swap_used);
	put_text(o, "level", level_name(m->level));
	put(o, "pressure_percent", m->pressure);
	put_text(o, "drop_caches", m->drop_caches);
	put_lists(o, m);
	if (!o || jx_put(&b, o, JX_SPACED) < 0)
		return -ENOMEM;
	puts(b.p);
	return 0;
}

int ctl_memory(const struct ctl *c, char **argv, struct err *e)
{
	CLEANUP(box_msg_donep) struct box_msg m = { 0 };
	int r = ctl_ask_memory(c, &m, e);

	(void)argv;
	if (r < 0)
		return r;
	r = c->json ? print_json(m.body.memory) : print_table(m.body.memory);
	return r < 0 ? err_set(e, r, "out of memory") : 0;
}
