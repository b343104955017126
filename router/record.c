/* record.c - see record.h. */
#include "router/record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/text.h"

struct records {
	struct record **slots;
	size_t cap, next, n;	/* next: where the next one goes */
};

static void record_free(struct record *r)
{
	if (!r)
		return;
	free(r->chain);
	free(r->tries);
	free(r);
}

int records_new(uint32_t keep, struct records **ret)
{
	struct records *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->slots = calloc(keep ? keep : 1, sizeof(*r->slots));
	if (!r->slots) {
		free(r);
		return -ENOMEM;
	}
	r->cap = keep;
	*ret = r;
	return 0;
}

struct records *records_free(struct records *r)
{
	for (size_t i = 0; r && i < r->cap; i++)
		record_free(r->slots[i]);
	if (r)
		free(r->slots);
	free(r);
	return NULL;
}

/* ---- one of them ----------------------------------------------------------------------- */

static int64_t wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static uint32_t ms_since(const struct record *r, uint64_t ns)
{
	return ns <= r->started_ns ? 0 : (uint32_t)((ns - r->started_ns) / NS_PER_MS);
}

struct record *record_begin(const char *id, const char *peer, const char *key, uint64_t started_ns)
{
	struct record *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	text_add(r->id, sizeof(r->id), 0, id);
	text_add(r->peer, sizeof(r->peer), 0, peer);
	text_add(r->key, sizeof(r->key), 0, key ? key : "");
	r->started_ns = started_ns;
	r->wall_ms = wall_ms() - (int64_t)((clock_ns() - started_ns) / NS_PER_MS);
	r->first_ms = RECORD_NEVER;
	return r;
}

void record_try(struct record *r, const char *target, const char *box, uint64_t began_ns)
{
	struct record_try *more;

	if (!r || r->n_tries == RECORD_MAX_TRIES)
		return;
	more = realloc(r->tries, (r->n_tries + 1) * sizeof(*more));
	if (!more)
		return;
	r->tries = more;
	more += r->n_tries++;
	*more = (struct record_try){ .began_ms = ms_since(r, began_ns), .accepted_ms = RECORD_NEVER,
				     .first_ms = RECORD_NEVER, .ended_ms = RECORD_NEVER };
	text_add(more->target, sizeof(more->target), 0, target);
	text_add(more->box, sizeof(more->box), 0, box ? box : "");
}

static struct record_try *last(struct record *r)
{
	return r && r->n_tries ? &r->tries[r->n_tries - 1] : NULL;
}

void record_accepted(struct record *r)
{
	struct record_try *t = last(r);

	if (t)
		t->accepted_ms = ms_since(r, clock_ns());
}

void record_first(struct record *r)
{
	struct record_try *t = last(r);

	if (!t)
		return;
	t->first_ms = ms_since(r, clock_ns());
	if (r->first_ms == RECORD_NEVER)
		r->first_ms = t->first_ms;
}

void record_result(struct record *r, const char *result)
{
	struct record_try *t = last(r);

	if (!t || *t->result)
		return;
	text_add(t->result, sizeof(t->result), 0, result);
	t->ended_ms = ms_since(r, clock_ns());
}

void record_why(struct record *r, const char *why)
{
	struct record_try *t = last(r);

	if (t)
		text_add(t->why, sizeof(t->why), 0, why);
}

/* ---- all of them ------------------------------------------------------------------------- */

void records_add(struct records *all, struct record *r)
{
	if (!r)
		return;
	r->over = true;
	r->total_ms = ms_since(r, clock_ns());
	if (!all || !all->cap) {
		record_free(r);
		return;
	}
	record_free(all->slots[all->next]);
	all->slots[all->next] = r;
	all->next = (all->next + 1) % all->cap;
	all->n += all->n < all->cap;
}

const struct record *records_at(const struct records *all, size_t i)
{
	return all && i < all->n ? all->slots[(all->next + all->cap - 1 - i) % all->cap] : NULL;
}

const struct record *records_find(const struct records *all, const char *id)
{
	const struct record *r;

	for (size_t i = 0; (r = records_at(all, i)); i++)
		if (!strcmp(r->id, id) || (!strncmp(r->id, "req-", 4) && !strcmp(r->id + 4, id)))
			return r;
	return NULL;
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static void put_text(struct buf *out, const char *name, const char *text)
{
	buf_printf(out, "\"%s\":", name);
	jx_put_str(out, text, strlen(text));
	buf_putc(out, ',');
}

/* What did not happen is left out. */
static void put_ms(struct buf *out, const char *name, uint32_t ms)
{
	if (ms != RECORD_NEVER)
		buf_printf(out, "\"%s\":%" PRIu32 ",", name, ms);
}

static void put_try(struct buf *out, const struct record_try *t)
{
	buf_putc(out, '{');
	put_text(out, "target", t->target);
	put_text(out, "box", t->box);
	put_text(out, "result", t->result);
	put_text(out, "why", t->why);
	put_ms(out, "accepted_ms", t->accepted_ms);
	put_ms(out, "first_ms", t->first_ms);
	put_ms(out, "ended_ms", t->ended_ms);
	buf_printf(out, "\"began_ms\":%" PRIu32 "}", t->began_ms);
}

void record_put_json(const struct record *r, bool tries, struct buf *out)
{
	const char term[] = { r->who ? r->who : '-', r->phase ? r->phase : '-', '\0' };

	buf_putc(out, '{');
	put_text(out, "id", r->id);
	put_text(out, "alias", r->alias);
	put_text(out, "chain", r->chain ? r->chain : "");
	put_text(out, "key", r->key);
	put_text(out, "peer", r->peer);
	put_text(out, "term", term);
	put_text(out, "error", r->error);
	put_ms(out, "first_ms", r->first_ms);
	buf_printf(out,
		   "\"began\":%" PRId64 ".%03" PRId64 ",\"stream\":%s,\"over\":%s,\"status\":%d,"
		   "\"prompt_tokens\":%" PRIu32 ",\"output_tokens\":%" PRIu32
		   ",\"total_ms\":%" PRIu32,
		   r->wall_ms / 1000, r->wall_ms % 1000, r->stream ? "true" : "false",
		   r->over ? "true" : "false", r->status, r->prompt, r->output,
		   r->over ? r->total_ms : ms_since(r, clock_ns()));
	for (uint32_t i = 0; tries && i < r->n_tries; i++) {
		buf_puts(out, i ? "," : ",\"tries\":[");
		put_try(out, &r->tries[i]);
	}
	buf_puts(out, !tries ? "}" : r->n_tries ? "]}" : ",\"tries\":[]}");
}
