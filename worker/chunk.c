/* chunk.c - see chunk.h. */
#include "worker/chunk.h"

#include <math.h>
#include <stdbool.h>

#include "kernels/step.h"

/* Where rows and keys cost of the order of what a prompt costs anyway. */
#define ROW_UNIT 1024
#define KEY_UNIT (32 << 20)
#define DEEP 12288		/* keys a row, in the mean */
#define UNEVEN_MOST 1.5
#define COST_LEAP 4		/* a step costs at most so many times what was expected: accidents happen */

static uint64_t limit_ns(const struct chunk *c)
{
	const uint64_t share = CHUNK_SHARE * c->answers_ns;

	return c->pause_ns > share ? c->pause_ns : share;
}

/* Of that, for prompts. */
static uint64_t room_ns(const struct chunk *c)
{
	return limit_ns(c) - c->answers_ns;
}

static double cost_of(const struct chunk_cost *k, struct chunk_work w)
{
	return k->once_ns + w.rows * k->row_ns + (double)w.keys * k->key_ns;
}

static double at_least(double x, double least)
{
	return x < least ? least : x;
}

/* To the cost nearest to the one before under which this was as long as it was (Kaczmarz). */
static void cost_approach(struct chunk_cost *k, const struct chunk_seen *s)
{
	const double x = (double)s->work.rows / ROW_UNIT, y = (double)s->work.keys / KEY_UNIT,
		     step = (s->ns - cost_of(k, s->work)) / (1 + x * x + y * y);

	k->once_ns = at_least(k->once_ns + step, 0);
	k->row_ns = at_least(k->row_ns + step * x / ROW_UNIT, 1);
	k->key_ns = at_least(k->key_ns + step * y / KEY_UNIT, 0);
}

/* Eight sizes, near the beginning of a prompt and deep in it. */
static struct chunk_seen *seen_of(struct chunk_cost *k, struct chunk_work w)
{
	uint32_t size = 0;

	while (size < CHUNK_SEEN / 2 - 1 && w.rows >= (uint32_t)STEP_GRID << (size + 1))
		size++;
	return &k->seen[2 * size + (w.keys / w.rows >= DEEP)];
}

static void cost_seen(struct chunk_cost *k, struct chunk_work w, double ns)
{
	struct chunk_seen *last = seen_of(k, w);

	if (k->known && ns > COST_LEAP * cost_of(k, w))
		ns = COST_LEAP * cost_of(k, w);
	*last = (struct chunk_seen){ w, ns, ++k->n };
	k->known = 0;
	for (int i = 0; i < CHUNK_SEEN; i++) {
		struct chunk_seen *s = &k->seen[i];

		if (s->at && s->at + CHUNK_OLD < k->n)
			s->at = 0;
		if (s->at && s->work.rows > k->known)
			k->known = s->work.rows;
	}
	/* Again and again, as it comes no further at once; what was seen last is met. */
	for (int round = 0; round < 64; round++)
		for (int i = 0; i < CHUNK_SEEN; i++)
			if (k->seen[i].at)
				cost_approach(k, &k->seen[i]);
	cost_approach(k, last);
}

/* Rows for a step of limit_ns(), by what `rows` cost beyond the answers. */
static uint64_t rows_that_fit(const struct chunk *c, uint32_t rows, uint64_t ns)
{
	const uint64_t each = ns > c->answers_ns ? (ns - c->answers_ns) / rows : 0;

	return each ? room_ns(c) / each : UINT64_MAX;
}

static uint64_t extra_ns(const struct chunk *c, uint64_t ns)
{
	return ns > c->answers_ns ? ns - c->answers_ns : 1;
}

void chunk_took(struct chunk *c, struct chunk_work work, uint64_t ns)
{
	const uint32_t rows = work.rows;
	uint64_t want;

	if (!c->pause_ns || !ns)
		return;
	if (rows)
		cost_seen(&c->cost, work, (double)extra_ns(c, ns));
	/* The end of a prompt is mostly what a step costs without rows: it says nothing of them. */
	if (rows < STEP_GRID || (rows < c->rows && ns <= limit_ns(c)))
		return;
	want = rows_that_fit(c, rows, ns);
	if (want > 2 * (uint64_t)rows)
		want = 2 * (uint64_t)rows;
	if (want > c->most)
		want = c->most;
	c->rows = want < STEP_GRID ? STEP_GRID : (uint32_t)want / STEP_GRID * STEP_GRID;
}

/* How far the longest part is above its share: more at once, less slowly. */
static void uneven_seen(struct chunk_cost *k, double seen)
{
	seen = seen > UNEVEN_MOST ? UNEVEN_MOST : seen;
	k->uneven = seen > k->uneven ? seen : k->uneven - (k->uneven - seen) / 8;
}

void chunk_part_took(struct chunk *c, struct chunk_work work, uint32_t part, uint32_t n_parts,
		     uint64_t ns)
{
	const uint64_t extra = extra_ns(c, ns);

	if (!c->pause_ns || !work.rows)
		return;
	if (!part)
		c->parts_ns = c->longest_ns = 0;
	c->parts_ns += extra;
	c->longest_ns = extra > c->longest_ns ? extra : c->longest_ns;
	if (part + 1 < n_parts)
		return;
	cost_seen(&c->cost, work, (double)c->parts_ns);
	uneven_seen(&c->cost, (double)c->longest_ns * n_parts / (double)c->parts_ns);
}

void chunk_alone_took(struct chunk *c, struct chunk_work work, uint64_t ns)
{
	if (c->pause_ns && work.rows && ns)
		cost_seen(&c->cost, work, (double)ns);
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* The most rows, `most` or on the grid, that cost no more than `room`; 0: none. */
static uint32_t rows_for(const struct chunk_cost *k, uint32_t pos, uint32_t most, double room)
{
	uint32_t none = 0, rows = most;		/* grid's rows: fit; do not fit */

	if (cost_of(k, chunk_work(pos, most)) <= room)
		return most;
	rows = (most - 1) / STEP_GRID + 1;
	while (rows - none > 1) {
		const uint32_t middle = none + (rows - none) / 2;

		if (cost_of(k, chunk_work(pos, middle * STEP_GRID)) <= room)
			none = middle;
		else
			rows = middle;
	}
	return none * STEP_GRID;
}

/* Of up to `most` rows in 2 to most_parts parts those that take a prompt of `left` rows in the fewest
 * steps, and the more of them; 0 parts: not even the least rows fit. */
static uint32_t fewest_steps(const struct chunk_cost *k, uint32_t pos, uint32_t left, uint32_t most,
			     uint32_t most_parts, double room, uint32_t *ret_rows)
{
	uint32_t rows[CHUNK_PARTS + 1], best = 0;
	double rate = 0, fewest = 0;	/* rows a step; steps */

	for (uint32_t n = 2; n <= most_parts; n++) {
		rows[n] = rows_for(k, pos, most, n * room / at_least(k->uneven, 1));
		rate = at_least(rate, (double)rows[n] / n);
	}
	for (uint32_t n = 2; rate > 0 && n <= most_parts; n++) {
		const double steps = n + ceil((left - rows[n]) / rate);

		if (rows[n] && (!best || steps < fewest || (steps == fewest && rows[n] > rows[best]))) {
			best = n;
			fewest = steps;
		}
	}
	*ret_rows = best ? rows[best] : 0;
	return best;
}

uint32_t chunk_parts(const struct chunk *c, uint32_t pos, uint32_t left, uint32_t *ret_rows)
{
	/* without a pause a chunk of `rows` is what fits, and rows are all that counts */
	const double room = c->pause_ns ? (double)room_ns(c) : c->rows;
	const struct chunk_cost fixed = { .row_ns = 1, .known = UINT32_MAX / 2 };
	const struct chunk_cost *k = c->pause_ns ? &c->cost : &fixed;
	const uint32_t most_parts = least(c->most_parts, CHUNK_PARTS),
		       most = least(left, least(c->most, STEP_PART_ROWS)),
		       chunk = least(left, c->rows);
	const bool fits = cost_of(k, chunk_work(pos, chunk)) <= room;
	uint32_t n, rows;

	*ret_rows = c->rows;
	/* A wrong guess costs a chunk one long step, a prompt in parts as many as it has. */
	if (most_parts < 2 || 2 * k->known < c->rows || (left <= c->rows && fits))
		return 1;
	n = fewest_steps(k, pos, left, least(most, 2 * k->known), most_parts, room, &rows);
	if (rows <= chunk && rows < left) {
		/* no more rows than a chunk: in parts only if it is too long whole */
		if (fits)
			return 1;
		rows = least(chunk, most);
		n = most_parts;
	}
	*ret_rows = rows;
	return n;
}

void chunk_answers_took(struct chunk *c, uint64_t ns)
{
	/* one step that the machine held up is no slow box */
	c->answers_ns = c->answers_ns ? c->answers_ns - c->answers_ns / 8 + ns / 8 : ns;
}
