/* prefill.cu - a pass of prompt rows through the layers (docs/numerics.md 7).
 *
 * What experts give is rounded to bfloat16 before it is weighed and added; all else is rounded
 * where the decode kernels round it.  Matrices take x in prefill order: the norms and SwiGLU write
 * it so, what comes out of attention and of the DeltaNet is put into it.  Thousands of rows make
 * every kernel long, so there are no graphs here. */
#include <errno.h>

#include <algorithm>

#include "kernels/cuda/device_int.h"
#include "kernels/cuda/route.h"

namespace {

struct product {
	const void *x;
	void *y;
	uint32_t k, ldx, ldy;
	enum matmul_out out;
	uint32_t n_swiglu;
	struct strided swiglu;
};

/* What --prefill-fp4 is for (step.h); gate and up are what becomes SwiGLU. */
bool in_fp4(const struct cuda_device *d, const struct matrix &w, enum matmul_out out)
{
	return w.format == MATMUL_NVFP4 &&
	       (d->fp4 == FP4_PREFILL_ALL ||
		(d->fp4 == FP4_PREFILL_UP && out == MATMUL_OUT_SWIGLU));
}

int multiply(struct cuda_device *d, uint32_t rows, const struct matrix &w, const struct product &p)
{
	struct decode_matmul_args a = {};

	a.w = w.w;
	a.row_scale = w.row_scale;
	a.format = w.format;
	a.x = p.x;
	a.y = p.y;
	a.n_rows = rows;
	a.n = w.n;
	a.k = p.k;
	a.ldx = p.ldx;
	a.ldy = p.ldy;
	a.n_swiglu = p.n_swiglu;
	a.ldy_swiglu = p.swiglu.ld;
	a.y_swiglu = p.swiglu.at;
	a.out = p.out;
	if (!in_fp4(d, w, p.out))
		return prefill_matmul(&a, d->stream);
	const struct fp4_rows x = fp4_rows_at(d->ws.fp4, rows, p.k);
	const int rc = prefill_fp4_quantise(p.x, rows, p.k, p.ldx, NULL, &x, d->stream);

	return rc ? rc : prefill_fp4_matmul(&a, &x, d->stream);
}

/* The products of a stack, side by side in bf16 rows of `ld`. */
int multiply_stack(struct cuda_device *d, uint32_t rows, const struct stack &s, const void *x,
		   void *y, uint32_t ld)
{
	uint16_t *to = (uint16_t *)y;
	int rc = 0;

	for (uint32_t i = 0; !rc && i < s.n_parts; to += s.part[i++].n)
		rc = multiply(d, rows, s.part[i],
			      { x, to, d->m.hidden, d->m.hidden, ld, MATMUL_OUT_BF16 });
	return rc;
}

/* y = W_out x, x as the mixer left it. */
int mixer_out(struct cuda_device *d, uint32_t rows, const struct layer_weights *w, void *x,
	      uint32_t width)
{
	int rc = prefill_order(x, rows, width, d->stream);

	return rc ? rc :
		    multiply(d, rows, w->mixer_out,
			     { x, d->ws.y, width, width, d->m.hidden, MATMUL_OUT_F32 });
}

int gdn_layer(struct cuda_device *d, const struct pass *pass, uint32_t layer)
{
	const struct layer_weights *w = &d->w.layer[layer];
	const struct workspace *s = &d->ws;
	const struct model_shape *m = &d->m;
	const uint32_t ld = gdn_ld(d);
	const char *u = (const char *)s->u;
	struct gdn_prefill_args g = {};
	int rc = multiply_stack(d, pass->n_rows, w->mixer_in, s->prompt_h, s->u, ld);

	pass_mark(d, CLASS_GDN_MATRIX);
	g.runs = s->prefill.gdn;
	g.chunks = s->prefill.chunk;
	g.n_runs = (uint32_t)pass->pieces.size();
	g.n_chunks = pass->n_chunks;
	g.k_heads = m->gdn_k_heads;
	g.v_heads = m->gdn_v_heads;
	g.ld = ld;
	g.u = u;
	g.z = u + 2 * d->channels;
	g.b = u + 2 * (d->channels + d->value);
	g.a = u + 2 * (d->channels + d->value + m->gdn_v_heads);
	g.conv_w = w->conv;
	g.a_log = w->a_log;
	g.dt_bias = w->dt_bias;
	g.window = window_at(d, d->index[layer], 0, 0);
	g.state = (float *)state_at(d, d->index[layer], 0);
	g.norm_w = w->gdn_norm;
	g.eps = m->norm_eps;
	g.room = s->gdn_room;
	g.out = s->og;
	rc = rc ? rc : gdn_prefill(&g, d->stream);
	pass_mark(d, CLASS_GDN);
	rc = rc ? rc : mixer_out(d, pass->n_rows, w, s->og, d->value);
	pass_mark(d, CLASS_GDN_MATRIX);
	return rc;
}

int attend(struct cuda_device *d, const struct pass *pass, const struct attn_tile *plan,
	   uint32_t index)
{
	const struct workspace *s = &d->ws;
	struct attn_prefill_args a = {};

	a.tiles = s->prefill.tile;
	a.plan = plan;
	a.n_tiles = pass->n_tiles;
	a.q_heads = d->m.n_q_heads;
	a.kv_heads = d->m.n_kv_heads;
	a.ld = attention_width(d);
	a.qg = s->u;
	a.blocks = s->prefill.table;
	a.n_blocks = d->limits.n_blocks;
	a.k = kv_at(d, index, 0);
	a.v = kv_at(d, index, 1);
	a.kv = d->limits.kv;
	a.scratch = attn_slots(d) ? s->attn_slots : NULL;
	a.out = s->ao;
	return attn_prefill(&a, d->stream);
}

int attention_layer(struct cuda_device *d, const struct pass *pass, const struct attn_tile *plan,
		    uint32_t layer)
{
	const struct layer_weights *w = &d->w.layer[layer];
	const struct workspace *s = &d->ws;
	const struct model_shape *m = &d->m;
	const uint32_t index = d->index[layer], q = m->n_q_heads * ATTN_DIM,
		       kv = m->n_kv_heads * ATTN_DIM;
	const uint32_t ld = attention_width(d);
	char *u = (char *)s->u;
	struct attn_prefill_in_args r = {};
	int rc = multiply_stack(d, pass->n_rows, w->mixer_in, s->prompt_h, s->u, ld);

	pass_mark(d, CLASS_ATTENTION_MATRIX);
	r.tiles = s->prefill.tile;
	r.rows = s->prefill.qk;
	r.n_tiles = pass->n_tiles;
	r.n_rows = pass->n_rows;
	r.q_heads = m->n_q_heads;
	r.kv_heads = m->n_kv_heads;
	r.ld = ld;
	r.qg = u;
	r.k = u + 4 * q;
	r.v = u + 2 * (2 * q + kv);
	r.q_norm = w->q_norm;
	r.k_norm = w->k_norm;
	r.cos = d->cos;
	r.sin = d->sin;
	r.rotary = m->rotary_dim;
	r.section_h = m->mrope_section[1];
	r.section_w = m->mrope_section[2];
	r.eps = m->norm_eps;
	r.k_cache = kv_at(d, index, 0);
	r.v_cache = kv_at(d, index, 1);
	r.kv = d->limits.kv;
	rc = rc ? rc : attn_prefill_in(&r, d->stream);
	rc = rc ? rc : attend(d, pass, plan, index);
	pass_mark(d, CLASS_ATTENTION);
	rc = rc ? rc : mixer_out(d, pass->n_rows, w, s->ao, q);
	pass_mark(d, CLASS_ATTENTION_MATRIX);
	return rc;
}

/* x += the sum, h = norm of it; in prefill order where a matrix follows. */
int add(struct cuda_device *d, uint32_t rows, const void *norm, bool ordered,
	struct residual_add_args a)
{
	int rc;

	a.x = d->ws.prompt_x;
	a.h = d->ws.prompt_h;
	a.norm = norm;
	a.rows = rows;
	a.width = d->m.hidden;
	a.eps = d->m.norm_eps;
	a.ordered = ordered;
	rc = residual_add(&a, d->stream);
	pass_mark(d, CLASS_RESIDUAL);
	return rc;
}

int dense_layer(struct cuda_device *d, uint32_t rows, const struct layer_weights *w,
		struct residual_add_args *ret)
{
	const struct workspace *s = &d->ws;
	const uint32_t hidden = d->m.hidden, inter = d->m.dense_inter;
	int rc = multiply(d, rows, w->gate_up,
			  { s->prompt_h, s->act, hidden, hidden, inter, MATMUL_OUT_SWIGLU });

	rc = rc ? rc :
		  multiply(d, rows, w->down,
			   { s->act, s->y, inter, inter, hidden, MATMUL_OUT_F32 });
	pass_mark(d, CLASS_SHARED);
	ret->y = s->y;
	ret->slots = 1;
	return rc;
}

int choose(struct cuda_device *d, uint32_t rows, const struct layer_weights *w,
	   const struct prefill_list *list)
{
	const struct workspace *s = &d->ws;
	const struct model_shape *m = &d->m;
	const uint32_t stride = m->n_experts + (m->shared_inter ? 1 : 0);
	struct route_args c = {};
	const struct strided act = shared_act(d);
	const bool one = shared_in_follows(w);
	int rc = multiply(d, rows, w->router,
			  { s->prompt_h, s->router, m->hidden, m->hidden, stride, MATMUL_OUT_F32,
			    one ? w->shared_in.n : 0, act });

	if (m->shared_inter && !one)
		rc = rc ? rc :
			  multiply(d, rows, w->shared_in,
				   { s->prompt_h, act.at, m->hidden, m->hidden, act.ld,
				     MATMUL_OUT_SWIGLU });

	c.logits = s->router;
	c.rows = rows;
	c.experts = m->n_experts;
	c.stride = stride;
	c.top = m->n_experts_used;
	c.shared = m->shared_inter != 0;
	c.ids = s->choice;
	c.weights = s->choice_weight;
	rc = rc ? rc : route_choose(&c, d->stream);
	rc = rc ? rc :
		  prefill_list_build(s->choice, rows, slots_of(d),
				     m->n_experts + (d->w.shared_beside ? 1 : 0), list, d->stream);
	pass_mark(d, CLASS_ROUTER);
	return rc;
}

/* The product of every expert with its pairs, in FP4 or not. */
int multiply_experts(struct cuda_device *d, const struct matrix &w,
		     const struct decode_experts_args &a, const struct prefill_list *list)
{
	if (!in_fp4(d, w, a.out))
		return prefill_experts(&a, list, d->stream);
	const uint32_t rows = a.x_per_slot ? a.n_rows * a.n_slots : a.n_rows;
	const struct fp4_rows x = fp4_rows_at(d->ws.fp4, rows, a.k);
	const int rc = prefill_fp4_quantise(a.x, rows, a.k, a.ldx, a.x_per_slot ? list : NULL, &x,
					    d->stream);

	return rc ? rc : prefill_fp4_experts(&a, list, &x, d->stream);
}

int expert_layer(struct cuda_device *d, uint32_t rows, const struct layer_weights *w,
		 struct residual_add_args *ret)
{
	const struct workspace *s = &d->ws;
	const struct model_shape *m = &d->m;
	const bool beside = d->w.shared_beside;
	const struct strided act = shared_act(d);
	const struct prefill_list list =
		prefill_list_at(s->prefill_list, rows, slots_of(d), m->n_experts + 1);
	struct decode_experts_args a = {};
	int rc = choose(d, rows, w, &list);

	a.w = w->expert_gate_up.w;
	a.row_scale = w->expert_gate_up.row_scale;
	a.format = w->expert_gate_up.format;
	a.x = s->prompt_h;
	a.y = s->act;
	a.n_rows = rows;
	a.n_slots = slots_of(d);
	a.n_experts = m->n_experts + (beside ? 1 : 0);
	a.n = 2 * m->expert_inter;
	a.k = a.ldx = m->hidden;
	a.ldy = m->expert_inter;
	a.out = MATMUL_OUT_SWIGLU;
	a.without_last = beside;
	rc = rc ? rc : multiply_experts(d, w->expert_gate_up, a, &list);
	a.w = w->expert_down.w;
	a.row_scale = w->expert_down.row_scale;
	a.format = w->expert_down.format;
	a.x = s->act;
	a.y = s->expert_y;
	a.n = a.ldy = m->hidden;
	a.k = a.ldx = m->expert_inter;
	a.x_per_slot = 1;
	a.without_last = 0;
	a.out = MATMUL_OUT_BF16;
	rc = rc ? rc : multiply_experts(d, w->expert_down, a, &list);
	pass_mark(d, CLASS_EXPERTS);
	if (m->shared_inter && !beside)
		rc = rc ? rc :
			  multiply(
				  d, rows, w->down,
				  { act.at,
				    (uint16_t *)(void *)s->expert_y + m->n_experts_used * m->hidden,
				    m->shared_inter, act.ld, slots_of(d) * m->hidden,
				    MATMUL_OUT_BF16 });
	pass_mark(d, CLASS_SHARED);
	ret->y = s->expert_y;
	ret->y_bf16 = 1;
	ret->weight = s->choice_weight;
	ret->slots = slots_of(d);
	return rc;
}

int embed(struct cuda_device *d, const struct pass *pass)
{
	struct embed_rows_args e = {};
	int rc;

	e.rows = d->ws.prefill.embed;
	e.last_sample = d->last_sample;
	e.embed = d->w.embed;
	e.norm = d->w.layer[0].input_norm;
	e.x = d->ws.prompt_x;
	e.h = d->ws.prompt_h;
	e.n_rows = pass->n_rows;
	e.width = d->m.hidden;
	e.vocab = d->m.vocab_rows;
	e.eps = d->m.norm_eps;
	e.ordered = 1;
	rc = embed_rows(&e, d->stream);
	pass_mark(d, CLASS_EMBED);
	return rc;
}

/* Of a prompt in parts those of its part: x and h wait in the workspace for the next. */
int layers(struct cuda_device *d, const struct pass *pass, const struct attn_tile *plan)
{
	const uint32_t rows = pass->n_rows, n = d->m.n_layers,
		       parts = pass->n_parts ? pass->n_parts : 1;
	int rc = pass->part ? 0 : embed(d, pass);

	for (uint32_t l = pass->part * n / parts; !rc && l < (pass->part + 1) * n / parts; l++) {
		const struct layer_weights *w = &d->w.layer[l];
		const bool last = l + 1 == n;
		struct residual_add_args mixer = {}, mlp = {};

		mixer.y = d->ws.y;
		mixer.slots = 1;
		rc = d->m.mixer[l] == MIXER_GDN ? gdn_layer(d, pass, l) :
						  attention_layer(d, pass, plan, l);
		rc = rc ? rc : add(d, rows, w->post_norm, true, mixer);
		rc = rc		    ? rc :
		     d->m.n_experts ? expert_layer(d, rows, w, &mlp) :
				      dense_layer(d, rows, w, &mlp);
		rc = rc ? rc : add(d, rows, last ? d->w.final_norm : w[1].input_norm, !last, mlp);
	}
	return rc;
}

/* Logits of every row for who asked: in turns of what the workspace holds. */
int all_logits(struct cuda_device *d, const struct pass *pass)
{
	for (const struct piece &p : pass->pieces)
		for (uint32_t from = 0; p.logits && from < p.n; from += d->pass_rows) {
			const uint32_t n = std::min(p.n - from, d->pass_rows);
			const size_t vocab = d->m.vocab_rows;
			std::vector<uint32_t> rows(n);

			for (uint32_t i = 0; i < n; i++)
				rows[i] = p.row + from + i;
			if (cudaMemcpyAsync(d->ws.prefill.embed, rows.data(), n * 4,
					    cudaMemcpyHostToDevice, d->stream) != cudaSuccess ||
			    pass_head(d, d->ws.prompt_h, (const uint32_t *)d->ws.prefill.embed, n) ||
			    cudaMemcpyAsync(p.logits + from * vocab, d->ws.logits, n * vocab * 4,
					    cudaMemcpyDeviceToHost, d->stream) != cudaSuccess ||
			    cudaStreamSynchronize(d->stream) != cudaSuccess)
				return -ENODEV;
		}
	return 0;
}

} /* namespace */

int prefill_forward(struct cuda_device *d, const struct pass *pass, const struct staging *from)
{
	int rc = layers(d, pass, from->prefill.tile);

	if (rc || !pass_ends(pass))
		return rc;
	rc = all_logits(d, pass);
	rc = rc ? rc : pass_head(d, d->ws.prompt_h, d->ws.prefill.head, pass->n_head);
	return rc ? rc : pass_samples(d, d->ws.prefill.sample, pass->n_sample, from->out);
}
