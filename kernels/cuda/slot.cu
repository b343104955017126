/* slot.cu - a sequence begins: its sampling, its marks and biases, its state at zero. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include <algorithm>

#include "kernels/cuda/device_int.h"

static bool in_range(float x, float low, float high)
{
	return x >= low && x <= high;
}

static bool sampling_ok(const struct cuda_device *d, const struct sampling *s)
{
	if (!in_range(s->temperature, 0, 1e6f) || !in_range(s->top_p, 0, 1) || s->top_p <= 0 ||
	    !in_range(s->min_p, 0, 1) || !in_range(s->repetition, 1e-6f, 1e6f) ||
	    !in_range(s->presence, -1e6f, 1e6f) || !in_range(s->frequency, -1e6f, 1e6f) ||
	    s->n_top > STEP_MAX_TOP || s->n_bias > STEP_MAX_BIAS ||
	    s->n_never > SAMPLE_MAX_BIAS - STEP_MAX_BIAS)
		return false;
	for (uint32_t i = 0; i < s->n_bias; i++)
		if (s->bias[i].id >= d->m.vocab_rows || s->bias[i].bias != s->bias[i].bias)
			return false;
	for (uint32_t i = 0; i < s->n_never; i++)
		if (s->never[i] >= d->m.vocab_rows)
			return false;
	return true;
}

/* Ids once each, sums of several entries in the order given. */
static uint32_t bias_merge(const struct sampling *s, struct sample_bias *ret)
{
	std::vector<struct sample_bias> all;
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n_bias; i++)
		all.push_back({ s->bias[i].id, s->bias[i].bias });
	for (uint32_t i = 0; i < s->n_never; i++)
		all.push_back({ s->never[i], -INFINITY });
	std::stable_sort(all.begin(), all.end(),
			 [](const struct sample_bias &a, const struct sample_bias &b) {
				 return a.id < b.id;
			 });
	for (const struct sample_bias &b : all) {
		if (n && ret[n - 1].id == b.id)
			ret[n - 1].bias = b.bias == -INFINITY ? b.bias : ret[n - 1].bias + b.bias;
		else
			ret[n++] = b;
	}
	return n;
}

static int state_clear(struct cuda_device *d, uint32_t slot)
{
	d->side[slot] = 0;
	d->n_kept[slot] = 0;
	for (uint32_t l = 0; l < d->n_gdn; l++)
		if (cudaMemsetAsync(state_at(d, l, slot), 0, d->state_slot, d->stream) !=
			    cudaSuccess ||
		    cudaMemsetAsync(window_at(d, l, slot, 0), 0, 2 * d->window_side, d->stream) !=
			    cudaSuccess)
			return -ENODEV;
	return 0;
}

/* The prompt's marks and the biases, from pinned memory: copied (or read) in the stream's own
 * time. */
static int slot_tables(struct cuda_device *d, uint32_t slot, const struct sampling *s,
		       const uint32_t *prompt, uint32_t n_prompt, struct sample_params *p)
{
	uint32_t *counts = d->counts + (size_t)slot * d->m.vocab_rows;
	const unsigned i = d->begin_next;
	int rc = 0;

	if (cudaEventSynchronize(d->begin_done[i]) != cudaSuccess)
		return -ENODEV;
	d->begin_next = 1 - i;
	p->n_bias = bias_merge(s, d->begin_bias[i]);
	if (p->n_bias && cudaMemcpyAsync(d->bias + (size_t)slot * SAMPLE_MAX_BIAS, d->begin_bias[i],
					 p->n_bias * sizeof(struct sample_bias),
					 cudaMemcpyHostToDevice, d->stream) != cudaSuccess)
		return -ENODEV;
	if (p->penalise) {
		const struct count_args c = { counts, d->begin_ids[i], n_prompt, d->m.vocab_rows,
					      1 };

		if (n_prompt)
			memcpy(d->begin_ids[i], prompt, n_prompt * 4);
		if (cudaMemsetAsync(counts, 0, (size_t)d->m.vocab_rows * 4, d->stream) !=
		    cudaSuccess)
			return -ENODEV;
		rc = sample_count(&c, d->stream);
	}
	return rc ? rc : cudaEventRecord(d->begin_done[i], d->stream) == cudaSuccess ? 0 : -ENODEV;
}

int cuda_slot_begin(struct cuda_device *d, uint32_t slot, const struct sampling *s,
		    const uint32_t *prompt, uint32_t n_prompt)
{
	struct sample_params p = {};
	int rc;

	if (!d->loaded || slot >= d->limits.n_slots || !sampling_ok(d, s) ||
	    n_prompt > d->limits.max_context || (n_prompt && !prompt))
		return -EINVAL;
	if (d->lost)
		return -ENODEV;
	p.seed = s->seed;
	p.temperature = s->temperature;
	p.top_p = s->top_p;
	p.min_p = s->min_p;
	p.repetition = s->repetition;
	p.presence = s->presence;
	p.frequency = s->frequency;
	p.top_k = s->top_k;
	p.choice = s->choice;
	p.n_top = s->n_top;
	p.logprob = s->logprob;
	p.penalise = s->repetition < 1 || s->repetition > 1 || s->presence < 0 || s->presence > 0 ||
		     s->frequency < 0 || s->frequency > 0;
	d->penalise[slot] = (uint8_t)p.penalise;
	rc = state_clear(d, slot);
	rc = rc ? rc : slot_tables(d, slot, s, prompt, n_prompt, &p);
	rc = rc ? rc : sample_set(d->params + slot, &p, d->stream);
	d->lost |= rc == -ENODEV;
	return rc;
}
