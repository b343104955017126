/* chunk.c - see chunk.h. */
#include "worker/chunk.h"

#include "kernels/step.h"

#define COST_UNIT 1024		/* rows: what they cost is of the order of what a prompt costs anyway */
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

static double cost_of(const struct chunk_cost *k, double rows)
{
	return k->once_ns + rows * k->each_ns;
}

/* The straight line nearest to the one before that goes through what was seen (Kaczmarz); in part only
 * when it was less than expected, since parts are not alike and the longest one counts. */
static void cost_seen(struct chunk_cost *k, double rows, double ns)
{
	const double x = rows / COST_UNIT, expected = cost_of(k, rows);
	double step;

	if (!k->seen) {
		*k = (struct chunk_cost){ 0, ns / rows, true };
		return;
	}
	if (ns > COST_LEAP * expected)
		ns = COST_LEAP * expected;
	step = (ns - expected) * (ns > expected ? 1 : 0.125) / (1 + x * x);
	k->once_ns += step;
	k->each_ns += step * x / COST_UNIT;
	if (k->once_ns < 0)
		k->once_ns = 0;
	if (k->each_ns < 1)
		k->each_ns = 1;
}

/* Rows for a step of limit_ns(), by what `rows` cost beyond the answers. */
static uint64_t rows_that_fit(const struct chunk *c, uint32_t rows, uint64_t ns)
{
	const uint64_t each = ns > c->answers_ns ? (ns - c->answers_ns) / rows : 0;

	return each ? room_ns(c) / each : UINT64_MAX;
}

static void part_seen(struct chunk *c, uint32_t rows, uint32_t n_parts, uint64_t ns)
{
	if (rows && ns > c->answers_ns)
		cost_seen(&c->cost, rows, (double)(ns - c->answers_ns) * n_parts);
}

void chunk_took(struct chunk *c, uint32_t rows, uint64_t ns)
{
	uint64_t want;

	if (!c->pause_ns || !ns)
		return;
	part_seen(c, rows, 1, ns);
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

void chunk_part_took(struct chunk *c, uint32_t rows, uint32_t n_parts, uint64_t ns)
{
	if (c->pause_ns)
		part_seen(c, rows, n_parts, ns);
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

uint32_t chunk_parts(const struct chunk *c, uint32_t left, uint32_t *ret_rows)
{
	/* without a pause a chunk of `rows` is what fits, and rows are all that counts */
	const double room = c->pause_ns ? (double)room_ns(c) : c->rows;
	const struct chunk_cost fixed = { 0, 1, true }, *k = c->pause_ns ? &c->cost : &fixed;
	const uint32_t most = least(c->most_parts, CHUNK_PARTS),
		       most_rows = least(c->most, STEP_PART_ROWS);
	uint32_t rows = least(left, most_rows), n = 1;

	*ret_rows = c->rows;
	/* A wrong guess costs a chunk one long step, a prompt in parts as many as it has. */
	if (!k->seen || (left <= c->rows && cost_of(k, left) <= room))
		return 1;
	while (n < most && cost_of(k, rows) > n * room)
		n++;
	while (rows > c->rows && cost_of(k, rows) > n * room)
		rows -= least(rows, STEP_GRID);
	if (n < 2)
		return 1;
	if (rows <= c->rows && rows < left) {
		/* no more rows than a chunk: in parts only if it is too long whole */
		if (cost_of(k, c->rows) <= room)
			return 1;
		rows = least(c->rows, most_rows);
	}
	if (rows < left)
		rows -= rows % STEP_GRID;
	*ret_rows = rows;
	return n;
}

void chunk_answers_took(struct chunk *c, uint64_t ns)
{
	/* one step that the machine held up is no slow box */
	c->answers_ns = c->answers_ns ? c->answers_ns - c->answers_ns / 8 + ns / 8 : ns;
}
