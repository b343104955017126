/* chunk.c - see chunk.h. */
#include "worker/chunk.h"

#include "kernels/step.h"

static uint64_t limit_ns(const struct chunk *c)
{
	const uint64_t share = CHUNK_SHARE * c->answers_ns;

	return c->pause_ns > share ? c->pause_ns : share;
}

/* Rows for a step of limit_ns(), by what `rows` cost beyond the answers. */
static uint64_t rows_that_fit(const struct chunk *c, uint32_t rows, uint64_t ns)
{
	const uint64_t each = ns > c->answers_ns ? (ns - c->answers_ns) / rows : 0;

	return each ? (limit_ns(c) - c->answers_ns) / each : UINT64_MAX;
}

void chunk_took(struct chunk *c, uint32_t rows, uint64_t ns)
{
	uint64_t want;

	/* The end of a prompt is mostly what a step costs without rows: it says nothing of them. */
	if (!c->pause_ns || !ns || rows < STEP_GRID || (rows < c->rows && ns <= limit_ns(c)))
		return;
	want = rows_that_fit(c, rows, ns);
	if (want > 2 * (uint64_t)rows)
		want = 2 * (uint64_t)rows;
	if (want > c->most)
		want = c->most;
	c->rows = want < STEP_GRID ? STEP_GRID : (uint32_t)want / STEP_GRID * STEP_GRID;
}

void chunk_answers_took(struct chunk *c, uint64_t ns)
{
	/* one step that the machine held up is no slow box */
	c->answers_ns = c->answers_ns ? c->answers_ns - c->answers_ns / 8 + ns / 8 : ns;
}
