/* plan.cu - a plan checked, and cut into passes. */
#include <errno.h>

#include "kernels/cuda/device_int.h"

namespace {

int run_check(const struct cuda_device *d, const struct plan_run *r)
{
	if (r->slot >= d->limits.n_slots || !r->n || r->n > d->limits.max_rows ||
	    r->pos > d->limits.max_context || r->n > d->limits.max_context - r->pos || !r->blocks ||
	    r->n_blocks < (r->pos + r->n + STEP_GRID - 1) / STEP_GRID)
		return -EINVAL;
	if (r->kind != ROW_PREFILL && r->kind != ROW_DECODE && r->kind != ROW_REPLAY)
		return -EINVAL;
	if ((r->kind == ROW_PREFILL && r->pos % STEP_GRID) || (r->kind == ROW_DECODE && r->n != 1) ||
	    (r->count && r->kind != ROW_REPLAY))
		return -EINVAL;
	if (r->input == IN_LAST_SAMPLE ? r->kind != ROW_DECODE : r->input != IN_TOKENS || !r->tokens)
		return -EINVAL;
	for (uint32_t i = 0; r->input == IN_TOKENS && i < r->n; i++)
		if (r->tokens[i] >= d->m.vocab_rows)
			return -EINVAL;
	for (uint32_t i = 0; i < (r->pos + r->n + STEP_GRID - 1) / STEP_GRID; i++)
		if (r->blocks[i] >= d->limits.n_blocks)
			return -EINVAL;
	return r->draft ? -ENOTSUP : 0;
}

int plan_check(const struct cuda_device *d, const struct plan *p)
{
	std::vector<bool> seen(d->limits.n_slots);
	uint64_t rows = 0;

	if (!p->n_runs || !p->runs)
		return -EINVAL;
	for (uint32_t i = 0; i < p->n_runs; i++) {
		int rc = run_check(d, &p->runs[i]);

		if (rc)
			return rc;
		if (seen[p->runs[i].slot])
			return -EINVAL;
		seen[p->runs[i].slot] = true;
		rows += p->runs[i].n;
	}
	return rows > d->limits.max_rows ? -EINVAL : 0;
}

void pass_add(const struct cuda_device *d, struct pass *pass, const struct plan_run *r, uint32_t run, uint32_t from,
	      uint32_t n)
{
	struct piece p = {};
	const uint32_t end = r->pos + from + n;

	p.run = run;
	p.slot = r->slot;
	p.row = pass->n_rows;
	p.n = n;
	p.pos = r->pos + from;
	p.first = from == 0;
	p.last = from + n == r->n;
	p.logits = r->logits ? r->logits + (size_t)from * d->m.vocab_rows : NULL;
	p.count = r->count;
	p.n_head = r->logits ? n : p.last && (r->sample || d->limits.digests) ? 1 : 0;
	p.head = p.n_head ? (int32_t)pass->n_head : -1;
	pass->n_head += p.n_head;
	if (p.last && r->sample) {
		pass->sample_run.push_back(run);
		pass->n_sample++;
	}
	pass->n_rows += n;
	pass->n_table += (end + STEP_GRID - 1) / STEP_GRID;
	pass->max_length = end > pass->max_length ? end : pass->max_length;
	pass->pieces.push_back(p);
}

} /* namespace */

int plan_cut(const struct cuda_device *d, const struct plan *p, std::vector<struct pass> *ret)
{
	std::vector<struct pass> passes;
	int rc = plan_check(d, p);

	if (rc)
		return rc;
	for (uint32_t i = 0; i < p->n_runs; i++)
		for (uint32_t from = 0; from < p->runs[i].n;) {
			uint32_t n = p->runs[i].n - from, room;

			if (passes.empty() || passes.back().n_rows == d->pass_rows)
				passes.push_back({});
			room = d->pass_rows - passes.back().n_rows;
			n = n < room ? n : room;
			pass_add(d, &passes.back(), &p->runs[i], i, from, n);
			from += n;
		}
	ret->swap(passes);
	return 0;
}

static void row_describe(const struct plan_run *r, const struct piece *p, uint32_t i, uint32_t table,
			 const struct staging *to)
{
	const uint32_t row = p->row + i, pos = p->pos + i;
	struct pass_meta *m = to->meta;

	if (r->input == IN_LAST_SAMPLE) {
		m->embed[row] = { 0, r->slot };
		m->token[row] = 0;
	} else {
		m->token[row] = r->tokens[pos - r->pos];
		m->embed[row] = { m->token[row], EMBED_TOKEN };
	}
	m->qk[row] = { { pos, pos, pos }, r->blocks[pos / STEP_GRID], pos % STEP_GRID };
	m->attn[row] = { pos + 1, table };
}

void pass_describe(const struct cuda_device *d, const struct plan *plan, const struct pass *pass,
		   const struct staging *to)
{
	uint32_t table = 0, sample = 0, run = 0;

	for (const struct piece &p : pass->pieces) {
		const struct plan_run *r = &plan->runs[p.run];
		const uint32_t blocks = (p.pos + p.n + STEP_GRID - 1) / STEP_GRID;

		for (uint32_t i = 0; i < p.n; i++)
			row_describe(r, &p, i, table, to);
		for (uint32_t i = 0; i < blocks; i++)
			to->table[table++] = r->blocks[i];
		to->meta->gdn[run++] = { p.slot, p.row, p.n, d->side[p.slot] };
		for (uint32_t i = 0; i < p.n_head; i++)
			to->meta->head[(uint32_t)p.head + i] = p.row + p.n - p.n_head + i;
		if (p.last && r->sample)
			to->meta->sample[sample++] = { p.slot, p.pos + p.n, (uint32_t)p.head + p.n_head - 1, 0 };
	}
}
