/* chunk.h - how many rows of prompts go into a step beside running answers.
 *
 * Answers wait for the whole step, so it should take `pause_ns`: little enough that nobody sees text
 * halt, long enough that prompts run at nearly the speed they have alone (a GPU takes 256 rows in half the
 * time of 2,048).  Where answers alone take a good part of that, a slow box or many of them, prompts would
 * starve: then a step may take CHUNK_SHARE times what answers alone take.  How many rows that is depends on
 * the device, the model and how deep in their contexts the prompts are; each step that was timed says
 * it anew.  No bit of an answer depends on it: prompts may be cut anywhere on the grid.
 *
 * A part of a step's time does not depend on its rows: all experts' weights are read for a few hundred
 * as for thousands (a quarter of the pause on an H200, all of it and more on a GB10).  So a prompt longer
 * than what fits is taken in *parts* (step.h): many rows, so many layers a step that the pause is
 * kept.  Not before one chunk has told what rows cost: parts that were begun cannot be cut anew.
 *
 * No memory of its own; belongs to its scheduler's thread.
 */
#ifndef HEARTH_WORKER_CHUNK_H
#define HEARTH_WORKER_CHUNK_H

#include <stdbool.h>
#include <stdint.h>

#define CHUNK_SHARE 3
#define CHUNK_PARTS 16		/* whoever comes behind waits so many pauses at most */

/* What a prompt's rows cost beyond the answers, as far as is known. */
struct chunk_cost {
	double once_ns, each_ns;
	bool seen;
};

struct chunk {
	uint32_t rows;		/* of prompts in a step, whole, now; a multiple of STEP_GRID */
	uint32_t most;		/* rows; at least STEP_GRID */
	uint64_t pause_ns;	/* 0: `rows` stays */
	uint64_t answers_ns;	/* a step of answers alone, smoothed; 0: none was seen yet */
	uint32_t most_parts;	/* 0, 1: the device does not know them */
	struct chunk_cost cost;
};

/* A step of answers and `rows` of prompts took `ns`. */
void chunk_took(struct chunk *c, uint32_t rows, uint64_t ns);
/* A step of answers and one of n_parts parts of `rows` took `ns`. */
void chunk_part_took(struct chunk *c, uint32_t rows, uint32_t n_parts, uint64_t ns);
/* How many of a prompt's `left` rows to take next, all of them or on the grid, and in how many
 * parts; 1: as one chunk of `rows`. */
uint32_t chunk_parts(const struct chunk *c, uint32_t left, uint32_t *ret_rows);
/* A step of answers alone took `ns`. */
void chunk_answers_took(struct chunk *c, uint64_t ns);

#endif
