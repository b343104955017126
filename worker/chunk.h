/* chunk.h - how many rows of prompts go into a step beside running answers.
 *
 * Answers wait for the whole step, so it should take `pause_ns`: little enough that nobody sees text
 * halt, long enough that prompts run at nearly the speed they have alone (a GPU takes 256 rows in half the
 * time of 2,048).  How many rows that is depends on the device, the model and how deep in their
 * contexts the prompts are; each step that was timed says it anew.  No bit of an answer depends on
 * it: prompts may be cut anywhere on the grid.
 */
#ifndef HEARTH_WORKER_CHUNK_H
#define HEARTH_WORKER_CHUNK_H

#include <stdint.h>

struct chunk {
	uint32_t rows;		/* now; a multiple of STEP_GRID */
	uint32_t most;		/* at least STEP_GRID */
	uint64_t pause_ns;	/* 0: `rows` stays */
};

/* A step of answers and `rows` of prompts took so long. */
void chunk_took(struct chunk *c, uint32_t rows, uint64_t ns);

#endif
