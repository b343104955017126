/* submit.cu - a step is enqueued pass by pass, and collected when the device is done with it. */
#include <errno.h>

#include <algorithm>

#include "kernels/cuda/device_int.h"

/* What kernels read about a pass, on its way; then the pass. */
static int pass_enqueue(struct cuda_device *d, const struct pass *pass, const struct staging *s)
{
	if (pass->prefill) {
		if (!pass->part &&
		    cudaMemcpyAsync(d->ws.prefill.blob, s->prefill.blob, s->prefill.bytes,
				    cudaMemcpyHostToDevice, d->stream) != cudaSuccess)
			return -ENODEV;
		return prefill_forward(d, pass, s);
	}
	const int rc = pass_bring(d, pass, s);

	return rc ? rc : pass_forward(d, pass);
}

/* As pass_describe() for a prompt in parts, in memory that lasts as long as they do. */
static int part_describe(struct cuda_device *d, const struct plan *p, struct pass *pass,
			 struct staging *s)
{
	struct open_prompt *o = &d->open;
	int rc = 0;

	if (!pass->part)
		o->turn = (o->turn + 1) % STEP_AHEAD;
	s->prefill = o->meta[o->turn];
	if (!pass->part) {
		rc = pass_describe(d, p, pass, s);
		o->n_chunks = pass->n_chunks;
		o->n_tiles = pass->n_tiles;
	}
	pass->n_chunks = o->n_chunks;
	pass->n_tiles = o->n_tiles;
	return rc;
}

static_assert(STEP_GRID % GDN_PERIOD == 0, "on the grid a state is whole");

static int pass_submit(struct cuda_device *d, const struct plan *p, struct pass *pass,
		       const struct staging *from, struct flight *f)
{
	struct staging s = *from;
	int rc = pass->n_parts > 1 ? part_describe(d, p, pass, &s) : pass_describe(d, p, pass, &s);

	rc = rc ? rc : pass_enqueue(d, pass, &s);
	if (rc || !pass_ends(pass))
		return rc;
	for (const struct piece &piece : pass->pieces) {
		d->side[piece.slot] ^= 1;
		/* A prompt begins and goes on where nothing is kept, on the grid. */
		d->n_kept[piece.slot] =
			pass->prefill ? 0 : gdn_kept_after(d->n_kept[piece.slot], piece.pos, piece.n);
	}
	if (d->limits.digests)
		rc = pass_digest(d, pass, f->results.data());
	return rc;
}

int cuda_device_submit(struct cuda_device *d, const struct plan *p)
{
	struct flight *f = &d->flights[(d->oldest + d->n_flights) % STEP_AHEAD];
	std::vector<struct pass> passes;
	int rc;

	if (!d->loaded)
		return -EINVAL;
	if (d->lost)
		return -ENODEV;
	rc = plan_cut(d, p, &passes);
	if (rc)
		return rc;
	if (d->n_flights == STEP_AHEAD)
		return -EAGAIN;
	f->passes.swap(passes);
	f->results.assign(p->n_runs, {});
	for (uint32_t i = 0; i < p->n_runs; i++)
		f->results[i].slot = p->runs[i].slot;
	for (size_t i = 0; !rc && i < f->passes.size(); i++)
		rc = pass_submit(d, p, &f->passes[i], &f->staging[i], f);
	if (!rc && cudaEventRecord(f->done, d->stream) != cudaSuccess)
		rc = -ENODEV;
	if (rc) {	/* part of a step was enqueued: states can no longer be trusted */
		d->lost = true;
		return -ENODEV;
	}
	d->n_flights++;
	return 0;
}

static void result_take(const struct sample_out *from, struct run_result *r)
{
	r->sampled = true;
	r->no_number = from->no_number;
	r->token = from->token;
	r->logprob = from->logprob;
	r->n_top = std::min(from->n_top, (uint32_t)STEP_MAX_TOP);
	for (uint32_t i = 0; i < r->n_top; i++) {
		r->top[i].id = from->top_id[i];
		r->top[i].logprob = from->top_logprob[i];
	}
}

int cuda_device_collect(struct cuda_device *d, struct run_result *ret, uint32_t n)
{
	struct flight *f = &d->flights[d->oldest];

	if (!d->n_flights)
		return d->lost ? -ENODEV : -ENOENT;
	if (n < f->results.size())
		return -EINVAL;
	if (device_code(d, cudaEventSynchronize(f->done)))
		return -ENODEV;
	for (size_t i = 0; i < f->passes.size(); i++)
		for (uint32_t j = 0; j < f->passes[i].n_sample; j++)
			result_take(&f->staging[i].out[j], &f->results[f->passes[i].sample_run[j]]);
	std::copy(f->results.begin(), f->results.end(), ret);
	d->oldest = (d->oldest + 1) % STEP_AHEAD;
	d->n_flights--;
	return (int)f->results.size();
}
