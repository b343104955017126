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
 * kept.  Every step has its share of that, so rows and parts are chosen for the fewest steps.  What rows
 * cost is learned of every prompt, also of those that nobody waits beside; parts that were begun cannot
 * be cut anew, so a guess reaches to twice the rows that were seen.
 *
 * No memory of its own; belongs to its scheduler's thread.
 */
#ifndef HEARTH_WORKER_CHUNK_H
#define HEARTH_WORKER_CHUNK_H

#include <stdint.h>

#define CHUNK_SHARE 3
#define CHUNK_PARTS 16		/* whoever comes behind waits so many pauses at most */

/* Rows of prompts in a step, and how many keys they look at, all together. */
struct chunk_work {
	uint32_t rows;
	uint64_t keys;
};

/* `rows` rows from position `pos` on. */
static inline struct chunk_work chunk_work(uint32_t pos, uint32_t rows)
{
	return (struct chunk_work){ rows, (uint64_t)rows * pos + (uint64_t)rows * rows / 2 };
}

#define CHUNK_SEEN 16
#define CHUNK_OLD 32		/* steps with prompts after which nothing is said of one any more */

/* What work costs beyond the answers, by the last step of each size: a straight line of what any takes,
 * a row, a key.  Of up to `known` rows at a time, 0: of none.  The longest of its parts takes `uneven`
 * times its share. */
struct chunk_cost {
	double once_ns, row_ns, key_ns, uneven;
	uint32_t known;
	uint64_t n;			/* steps so far */
	struct chunk_seen {
		struct chunk_work work;
		double ns;
		uint64_t at;		/* of the n steps; 0: none */
	} seen[CHUNK_SEEN];
};

struct chunk {
	uint32_t rows;		/* of prompts in a step, whole, now; a multiple of STEP_GRID */
	uint32_t most;		/* rows; at least STEP_GRID */
	uint64_t pause_ns;	/* 0: `rows` stays */
	uint64_t answers_ns;	/* a step of answers alone, smoothed; 0: none was seen yet */
	uint32_t most_parts;	/* 0, 1: the device does not know them */
	struct chunk_cost cost;
	uint64_t parts_ns, longest_ns;	/* beyond the answers: of the prompt in parts that is under way */
};

/* A step of answers and this took `ns`. */
void chunk_took(struct chunk *c, struct chunk_work work, uint64_t ns);
/* A step of answers and part `part` of n_parts of this took `ns`. */
void chunk_part_took(struct chunk *c, struct chunk_work work, uint32_t part, uint32_t n_parts,
		     uint64_t ns);
/* A step of this without answers took `ns`. */
void chunk_alone_took(struct chunk *c, struct chunk_work work, uint64_t ns);
/* How many rows of a prompt to take next, which has `left` from `pos` on, all of them or on the grid,
 * and in how many parts; 1: as one chunk of `rows`. */
uint32_t chunk_parts(const struct chunk *c, uint32_t pos, uint32_t left, uint32_t *ret_rows);
/* A step of answers alone took `ns`. */
void chunk_answers_took(struct chunk *c, uint64_t ns);

#endif
