/* plan.cu - a plan checked, and cut into passes. */
#include <errno.h>

#include "kernels/cuda/device_int.h"

static_assert(STEP_PART_ROWS <= PREFILL_ROWS, "a prompt in parts is one pass");

namespace {

int run_check(const struct cuda_device *d, const struct plan_run *r)
{
	if (r->slot >= d->limits.n_slots || !r->n || r->n > d->limits.max_rows ||
	    r->pos > d->limits.max_context || r->n > d->limits.max_context - r->pos || !r->blocks ||
	    r->n_blocks < (r->pos + r->n + STEP_GRID - 1) / STEP_GRID)
		return -EINVAL;
	if (r->kind != ROW_PREFILL && r->kind != ROW_DECODE && r->kind != ROW_REPLAY)
		return -EINVAL;
	/* Tokens beside the states are of the position's period, and none are where prompts begin: else the slot is
	 * at another position. */
	if (d->n_kept[r->slot] > (r->kind == ROW_PREFILL ? 0 : r->pos % GDN_PERIOD))
		return -EINVAL;
	if ((r->kind == ROW_PREFILL && r->pos % STEP_GRID) ||
	    (r->kind == ROW_DECODE && r->n != 1) || (r->count && r->kind != ROW_REPLAY))
		return -EINVAL;
	if (r->input == IN_LAST_SAMPLE ? r->kind != ROW_DECODE :
					 r->input != IN_TOKENS || !r->tokens)
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

void pass_add(const struct cuda_device *d, struct pass *pass, const struct plan_run *r,
	      uint32_t run, uint32_t from, uint32_t n)
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
	p.n_head = r->logits && !pass->prefill		      ? n :
		   p.last && (r->sample || d->limits.digests) ? 1 :
								0;
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

/* How many of the `left` rows of a run fit the last pass of its kind; a prompt is cut on the grid
 * only. */
static uint32_t fits(const struct cuda_device *d, const struct pass *pass, uint32_t left)
{
	const uint32_t room = (pass->prefill ? d->prefill_rows : d->pass_rows) - pass->n_rows;

	if (left <= room)
		return pass->prefill && pass->pieces.size() == PREFILL_RUNS ? 0 : left;
	if (!pass->prefill)
		return room;
	return pass->pieces.size() == PREFILL_RUNS ? 0 : room / STEP_GRID * STEP_GRID;
}

static void cut_kind(const struct cuda_device *d, const struct plan *p, bool prefill,
		     std::vector<struct pass> *passes)
{
	bool fresh = true;

	for (uint32_t i = 0; i < p->n_runs; i++)
		for (uint32_t from = 0; from < p->runs[i].n;) {
			uint32_t n = 0;

			if ((p->runs[i].kind == ROW_PREFILL) != prefill)
				break;
			if (!fresh)
				n = fits(d, &passes->back(), p->runs[i].n - from);
			if (!n) {
				passes->push_back({});
				passes->back().prefill = prefill;
				n = fits(d, &passes->back(), p->runs[i].n - from);
				fresh = false;
			}
			pass_add(d, &passes->back(), &p->runs[i], i, from, n);
			from += n;
		}
}

int plan_cut(const struct cuda_device *d, const struct plan *p, std::vector<struct pass> *ret)
{
	std::vector<struct pass> passes;
	int rc = plan_check(d, p);

	if (rc)
		return rc;
	cut_kind(d, p, false, &passes);	/* those who wait for a token first */
	cut_kind(d, p, true, &passes);
	if (p->n_parts > 1) {
		struct pass *last = &passes.back();

		if (!last->prefill || last->pieces.size() != 1 || last->n_rows != p->runs[p->n_runs - 1].n)
			return -EINVAL;		/* more rows than a pass has room for */
		last->part = p->part;
		last->n_parts = p->n_parts;
		last->n_sample = pass_ends(last) ? last->n_sample : 0;
	}
	ret->swap(passes);
	return 0;
}

static void row_describe(const struct plan_run *r, const struct piece *p, uint32_t i,
			 uint32_t table, const struct staging *to)
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
	m->attn[row] = { pos + 1, table, p->pos };
}

static void decode_describe(const struct cuda_device *d, const struct plan *plan,
			    const struct pass *pass, const struct staging *to)
{
	uint32_t table = 0, sample = 0, run = 0;

	to->meta->out = to->out;
	for (const struct piece &p : pass->pieces) {
		const struct plan_run *r = &plan->runs[p.run];
		const uint32_t blocks = (p.pos + p.n + STEP_GRID - 1) / STEP_GRID;

		for (uint32_t i = 0; i < p.n; i++)
			row_describe(r, &p, i, table, to);
		for (uint32_t i = 0; i < blocks; i++)
			to->table[table++] = r->blocks[i];
		to->meta->gdn[run++] = { p.slot, p.row, p.n, d->side[p.slot], p.pos % GDN_PERIOD,
					 d->n_kept[p.slot] };
		for (uint32_t i = 0; i < p.n_head; i++)
			to->meta->head[(uint32_t)p.head + i] = p.row + p.n - p.n_head + i;
		if (p.last && r->sample)
			to->meta->sample[sample++] = { p.slot, p.pos + p.n,
						       (uint32_t)p.head + p.n_head - 1, 0 };
	}
}

static int prefill_describe(const struct cuda_device *d, const struct plan *plan, struct pass *pass,
			    const struct prefill_meta *m)
{
	uint32_t table = 0, sample = 0, n = 0;
	std::vector<struct attn_run> runs;

	for (const struct piece &p : pass->pieces) {
		const struct plan_run *r = &plan->runs[p.run];
		const uint32_t blocks = (p.pos + p.n + STEP_GRID - 1) / STEP_GRID;

		for (uint32_t i = 0; i < p.n; i++) {
			const uint32_t pos = p.pos + i;

			m->embed[p.row + i] = { r->tokens[pos - r->pos], EMBED_TOKEN };
			m->qk[p.row + i] = { { pos, pos, pos },
					     r->blocks[pos / STEP_GRID],
					     pos % STEP_GRID };
		}
		runs.push_back({ p.row, p.pos, p.n, table });
		for (uint32_t i = 0; i < blocks; i++)
			m->table[table++] = r->blocks[i];
		m->gdn[n++] = { p.slot, p.row, p.n, d->side[p.slot], 0 };
		if (p.n_head)
			m->head[p.head] = p.row + p.n - 1;
		if (p.last && r->sample)
			m->sample[sample++] = { p.slot, p.pos + p.n, (uint32_t)p.head, 0 };
	}
	pass->n_chunks =
		gdn_prefill_plan(m->gdn, n, m->chunk, d->prefill_rows / GDN_CHUNK + PREFILL_RUNS);
	pass->n_tiles = d->n_attn ? attn_prefill_tiles(runs.data(), n, attn_slots(d), m->tile) : 0;
	return d->n_attn && !pass->n_tiles ? -EINVAL : 0;
}

int pass_describe(const struct cuda_device *d, const struct plan *p, struct pass *pass,
		  const struct staging *to)
{
	if (pass->prefill)
		return prefill_describe(d, p, pass, &to->prefill);
	decode_describe(d, p, pass, to);
	return 0;
}

template <typename T> static void place(struct prefill_meta *m, T **ret, uint64_t n)
{
	*ret = m->blob ? (T *)(m->blob + m->bytes) : NULL;
	m->bytes += (n * sizeof(T) + 255) / 256 * 256;
}

void prefill_meta_layout(const struct cuda_device *d, char *blob, struct prefill_meta *m)
{
	const uint32_t rows = d->prefill_rows;

	*m = {};
	m->blob = blob;
	place(m, &m->embed, rows);
	place(m, &m->qk, rows);
	place(m, &m->gdn, PREFILL_RUNS);
	place(m, &m->chunk, rows / GDN_CHUNK + PREFILL_RUNS);
	place(m, &m->tile, attn_prefill_max_tiles(rows, PREFILL_RUNS, d->limits.max_context));
	place(m, &m->sample, PREFILL_RUNS);
	place(m, &m->head, PREFILL_RUNS);
	place(m, &m->table, d->table_entries);
}
