/* chunk.c - see chunk.h. */
#include "worker/chunk.h"

#include "kernels/step.h"

void chunk_took(struct chunk *c, uint32_t rows, uint64_t ns)
{
	uint64_t want;

	/* The end of a prompt is mostly what a step costs without rows: it says nothing of them. */
	if (!c->pause_ns || !ns || rows < STEP_GRID || (rows < c->rows && ns <= c->pause_ns))
		return;
	want = ns / rows ? c->pause_ns / (ns / rows) : 2 * (uint64_t)rows;
	if (want > 2 * (uint64_t)rows)
		want = 2 * (uint64_t)rows;
	if (want > c->most)
		want = c->most;
	c->rows = want < STEP_GRID ? STEP_GRID : (uint32_t)want / STEP_GRID * STEP_GRID;
}
