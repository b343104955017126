/* chunk.h - how many rows of prompts go into a step beside running answers.
 *
 * Answers wait for the whole step, so it should take `pause_ns`: little enough that nobody sees text
 * halt, long enough that prompts run at nearly the speed they have alone (a GPU takes 256 rows in half the
 * time of 2,048).  Where answers alone take a good part of that, a slow box or many of them, prompts would
 * starve: then a step may take CHUNK_SHARE times what answers alone take.  How many rows that is depends on
 * the device, the model and how deep in their contexts the prompts are; each step that was timed says
 * it anew.  No bit of an answer depends on it: prompts may be cut anywhere on the grid.
 *
 * No memory of its own; belongs to its scheduler's thread.
 */
#ifndef HEARTH_WORKER_CHUNK_H
#define HEARTH_WORKER_CHUNK_H

#include <stdint.h>

#define CHUNK_SHARE 3

struct chunk {
	uint32_t rows;		/* of prompts, now; a multiple of STEP_GRID */
	uint32_t most;		/* rows; at least STEP_GRID */
	uint64_t pause_ns;	/* 0: `rows` stays */
	uint64_t answers_ns;	/* a step of answers alone, smoothed; 0: none was seen yet */
};

/* A step of answers and `rows` of prompts took `ns`. */
void chunk_took(struct chunk *c, uint32_t rows, uint64_t ns);
/* A step of answers alone took `ns`. */
void chunk_answers_took(struct chunk *c, uint64_t ns);

#endif
