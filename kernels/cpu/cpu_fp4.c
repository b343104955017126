/* cpu_fp4.c - rows of prompts that meet NVFP4 matrices are rounded to NVFP4 themselves, where
 * that was wished for (limits.fp4, docs/numerics.md 7).
 *
 * No faster here: it is the reference of what sm_12x does in its tensor core, and says what that
 * costs on a machine that has none.  A rounded number is e2m1 * e4m3 * a power of two, exact in
 * float32, so the loops are those of any other row; the power, which a GPU applies to the sum, may
 * as well be in the numbers.
 */
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dequant.h"
#include "kernels/fp4_row.h"

bool cpu_fp4_takes(struct cpu_device *d, enum weight_slot slot, uint32_t layer,
		   const struct weight_ref *w)
{
	bool up = slot == W_EXPERT_GATE || slot == W_EXPERT_UP || slot == W_SHARED_GATE ||
		  slot == W_SHARED_UP || slot == W_MLP_GATE || slot == W_MLP_UP;
	bool takes = d->fp4 != FP4_PREFILL_OFF && w->format == WF_NVFP4 && slot >= W_PER_LAYER &&
		     layer < d->base.shape.n_layers && (up || d->fp4 == FP4_PREFILL_ALL);

	d->fp4_used |= takes;
	return takes;
}

size_t cpu_fp4_room(const struct model_shape *s)
{
	size_t h = s->hidden, used = s->n_experts_used;
	const size_t width[] = {
		(used + 1) * h,
		used * pad16(s->expert_inter) + pad16(s->shared_inter),
		pad16(s->dense_inter),
		(size_t)s->gdn_v_heads * s->gdn_head_dim,
		(size_t)s->n_q_heads * s->head_dim,
	};
	size_t most = 0;

	for (size_t i = 0; i < sizeof(width) / sizeof(width[0]); i++)
		most = width[i] > most ? width[i] : most;
	return most;
}

static void round_row(const float *x, uint32_t n, struct fp4_room *o, float *out)
{
	float power;

	fp4_row(x, n, o->codes, o->scales, &power);
	for (uint32_t i = 0; i < n; i++)
		out[i] = dequant_e2m1((uint8_t)(o->codes[i / 2] >> i % 2 * 4)) *
			 dequant_e4m3(o->scales[i / FP4_BLOCK]) * power;
}

static bool any_prompt(const struct mm_job *j)
{
	for (uint32_t r = 0; j->prompt && r < j->n; r++)
		if (j->prompt[r])
			return true;
	return false;
}

/* Neighbouring jobs often share x. */
static bool same_x(const struct mm_job *a, const struct mm_job *b)
{
	return a->w->fp4 && a->x == b->x && a->n == b->n && a->w->cols == b->w->cols;
}

const struct mm_job *cpu_fp4_jobs(struct cpu_device *d, const struct mm_job *jobs, uint32_t n_jobs)
{
	struct fp4_room *o = &d->room.fp4;
	float *at = o->x;

	if (!d->fp4_used)
		return jobs;
	memcpy(o->jobs, jobs, n_jobs * sizeof(*jobs));
	for (uint32_t i = 0; i < n_jobs; i++) {
		const struct mm_job *j = &jobs[i];

		if (!j->w->fp4 || !any_prompt(j))
			continue;
		o->jobs[i].ldx = j->w->cols;
		o->jobs[i].x = at;
		if (i && same_x(&jobs[i - 1], j)) {
			o->jobs[i].x = o->jobs[i - 1].x;
			continue;
		}
		for (uint32_t r = 0; r < j->n; r++, at += j->w->cols)
			if (j->prompt[r])
				round_row(j->x + r * j->ldx, j->w->cols, o, at);
			else
				memcpy(at, j->x + r * j->ldx, j->w->cols * sizeof(*at));
	}
	return o->jobs;
}
