/* workspace.cu - where in a pass's memory its arrays are, and how much that is. */
#include <algorithm>

#include "kernels/cuda/device_int.h"

static constexpr uint64_t ATTN_SCRATCH = (uint64_t)64 << 20;	/* floats; more rows take turns */

/* Of the rows that the FP4 product may be given at once. */
static uint64_t fp4_bytes(const struct cuda_device *d, uint64_t rows, uint64_t pairs)
{
	const struct model_shape *m = &d->m;
	uint32_t widest = m->hidden;

	if (d->fp4 == FP4_PREFILL_OFF)
		return 0;
	if (d->fp4 == FP4_PREFILL_ALL)
		widest = std::max({ widest, d->value, m->n_q_heads * ATTN_DIM, m->dense_inter, m->shared_inter });
	return std::max(fp4_rows_bytes((uint32_t)rows, widest),
			d->fp4 == FP4_PREFILL_ALL && m->n_experts ?
				fp4_rows_bytes((uint32_t)pairs, m->expert_inter) :
				0);
}

struct layout {
	char *slab;
	size_t used;

	template <typename T> void take(T **ret, uint64_t n, size_t each)
	{
		*ret = slab ? (T *)(slab + used) : NULL;
		used += (n * each + 255) / 256 * 256;
	}
};

void workspace_layout(const struct cuda_device *d, char *slab, struct workspace *w)
{
	const struct model_shape *m = &d->m;
	const uint64_t rows = std::max(d->pass_rows, d->prefill_rows), few = d->pass_rows;
	const uint64_t q = (uint64_t)m->n_q_heads * ATTN_DIM, pairs = rows * slots_of(d);
	const uint64_t one = attn_scratch_floats(1, d->limits.max_context, m->n_q_heads);
	const uint32_t chunks = d->prefill_rows / GDN_CHUNK + PREFILL_RUNS;
	struct layout l = { slab, 0 };

	w->slab = slab;
	l.take(&w->meta, 1, sizeof(struct pass_meta));
	prefill_meta_layout(d, NULL, &w->prefill);
	l.take(&w->prefill.blob, w->prefill.bytes, 1);
	prefill_meta_layout(d, w->prefill.blob, &w->prefill);
	l.take(&w->table, d->table_entries, 4);
	l.take(&w->active, 1, 8);
	l.take(&w->prompt_x, (uint64_t)d->prefill_rows * m->hidden, 2);
	l.take(&w->prompt_h, (uint64_t)d->prefill_rows * m->hidden, 2);
	l.take(&w->x, few * m->hidden, 2);
	l.take(&w->h, few * m->hidden, 2);
	l.take(&w->hn, few * m->hidden, 2);
	l.take(&w->y, rows * m->hidden, 4);
	l.take(&w->u, rows * std::max(gdn_ld(d), attention_width(d)), 2);
	l.take(&w->og, rows * d->value, 2);
	l.take(&w->q, few * q, 2);
	l.take(&w->gate, few * q, 2);
	l.take(&w->ao, rows * q, 2);
	l.take(&w->router, rows * (m->n_experts + 1), 4);
	l.take(&w->choice, pairs, 4);
	l.take(&w->choice_weight, pairs, 4);
	l.take(&w->list, expert_list_bytes((uint32_t)few, slots_of(d), m->n_experts + 1), 1);
	l.take(&w->row_room, expert_room_words(d), 4);
	l.take(&w->end_room, mixer_end_room_words(d), 4);
	l.take(&w->act, m->n_experts ? pairs * m->expert_inter : rows * m->dense_inter, 2);
	/* Few rows in float32, many in bfloat16. */
	l.take(&w->expert_y, std::max(few * slots_of(d) * 2, pairs) * m->hidden, 2);
	l.take(&w->shared_act, rows * m->shared_inter, 2);
	l.take(&w->keys, few * SAMPLE_SEGMENTS, 8);
	l.take(&w->logits, few * m->vocab_rows, 4);
	l.take(&w->raw_logits, d->limits.digests ? few * m->vocab_rows : 0, 4);
	w->attn_floats = one * few < ATTN_SCRATCH ? one * few :
			 one > ATTN_SCRATCH	  ? one :
						    ATTN_SCRATCH;
	l.take(&w->attn, w->attn_floats, 4);
	l.take(&w->prefill_list,
	       m->n_experts ? prefill_list_bytes((uint32_t)rows, slots_of(d), m->n_experts + 1) : 0,
	       1);
	l.take(&w->gdn_room,
	       m->gdn_k_heads ? gdn_prefill_room(m->gdn_k_heads, m->gdn_v_heads, chunks) : 0, 1);
	l.take(&w->attn_slots,
	       attn_slots(d) ?
		       attn_prefill_slot_floats(attn_slots(d), m->n_q_heads, m->n_kv_heads) :
		       0,
	       4);
	l.take(&w->fp4, fp4_bytes(d, rows, pairs), 1);
	w->bytes = l.used;
}
