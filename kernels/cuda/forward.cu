/* forward.cu - a pass through the layers: which kernel, in which order (docs/numerics.md 2). */
#include <errno.h>

#include <algorithm>

#include "kernels/cuda/device_int.h"
#include "kernels/cuda/route.h"

const char *const cuda_class_name[CLASS_N] = {
	"embed", "gdn matrices", "gdn step", "attention matrices", "attention", "router", "experts",
	"shared expert", "residual, norm", "head", "sample",
};

void pass_mark(struct cuda_device *d, enum cuda_class c)
{
	struct mark m = { c, NULL };

	if (!d->profile || cudaEventCreate(&m.at) != cudaSuccess)
		return;
	cudaEventRecord(m.at, d->stream);
	d->marks.push_back(m);
}

uint32_t gdn_width(const struct cuda_device *d)
{
	return d->channels + d->value + 2 * d->m.gdn_v_heads;
}

uint32_t gdn_ld(const struct cuda_device *d)
{
	return (gdn_width(d) + 7) / 8 * 8;
}

uint32_t attention_width(const struct cuda_device *d)
{
	return 2 * (d->m.n_q_heads + d->m.n_kv_heads) * ATTN_DIM;
}

uint32_t slots_of(const struct cuda_device *d)
{
	return d->m.n_experts_used + (d->m.shared_inter ? 1 : 0);
}

struct strided shared_act(const struct cuda_device *d)
{
	const struct workspace *s = &d->ws;
	const uint32_t inter = d->m.expert_inter;

	if (!d->w.shared_beside)
		return { (char *)s->shared_act, d->m.shared_inter };
	return { (char *)s->act + (size_t)d->m.n_experts_used * inter * 2, slots_of(d) * inter };
}

namespace {

constexpr uint64_t ATTN_SCRATCH = (uint64_t)64 << 20;	/* floats; more rows take turns */
constexpr uint32_t SHARED_BESIDE_ROWS = 8;

struct product {
	const void *x;
	void *y;
	uint32_t k, ldx, ldy;
	enum matmul_out out;
	uint32_t n_swiglu, ldy_swiglu;	/* and what follows W */
	void *y_swiglu;
};

struct decode_matmul_args args_of(uint32_t rows, const struct matrix &w, const struct product &p)
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
	a.ldy_swiglu = p.ldy_swiglu;
	a.y_swiglu = p.y_swiglu;
	a.out = p.out;
	return a;
}

int multiply(struct cuda_device *d, uint32_t rows, const struct matrix &w, const struct product &p)
{
	const struct decode_matmul_args a = args_of(rows, w, p);

	return decode_matmul(&a, d->stream);
}

/* The products of a stack, side by side in bf16 rows of `ld`. */
int multiply_stack(struct cuda_device *d, uint32_t rows, const struct stack &s, const void *x, void *y, uint32_t ld)
{
	struct decode_matmul_args a[STACK_MAX];
	uint16_t *to = (uint16_t *)y;
	int rc = 0;

	for (uint32_t i = 0; i < s.n_parts; to += s.part[i++].n)
		a[i] = args_of(rows, s.part[i], { x, to, d->m.hidden, d->m.hidden, ld, MATMUL_OUT_BF16 });
	if (s.n_parts == 2)
		return decode_matmul_pair(&a[0], &a[1], d->stream);
	for (uint32_t i = 0; !rc && i < s.n_parts; i++)
		rc = decode_matmul(&a[i], d->stream);
	return rc;
}

int gdn_layer(struct cuda_device *d, const struct pass *pass, uint32_t layer)
{
	const struct layer_weights *w = &d->w.layer[layer];
	const struct workspace *s = &d->ws;
	const struct model_shape *m = &d->m;
	const uint32_t rows = pass->n_rows, index = d->index[layer], ld = gdn_ld(d);
	const char *u = (const char *)s->u;
	struct gdn_step_args g = {};
	int rc = multiply_stack(d, rows, w->mixer_in, s->h, s->u, ld);

	pass_mark(d, CLASS_GDN_MATRIX);
	g.runs = s->meta->gdn;
	g.n_runs = (uint32_t)pass->pieces.size();
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
	g.window = window_at(d, index, 0, 0);
	g.state = (float *)state_at(d, index, 0);
	g.norm_w = w->gdn_norm;
	g.eps = m->norm_eps;
	g.out = s->og;
	rc = rc ? rc : gdn_step(&g, d->stream);
	pass_mark(d, CLASS_GDN);
	rc = rc ? rc : multiply(d, rows, w->mixer_out, { s->og, s->y, d->value, d->value, m->hidden, MATMUL_OUT_F32 });
	pass_mark(d, CLASS_GDN_MATRIX);
	return rc;
}

/* A longer bound decides no bit; powers of two keep graphs few. */
uint32_t length_bound(const struct cuda_device *d, uint32_t length)
{
	uint32_t bound = 256;

	while (bound < length)
		bound *= 2;
	return bound < d->limits.max_context ? bound : d->limits.max_context;
}

int attend(struct cuda_device *d, const struct pass *pass, uint32_t index)
{
	const struct workspace *s = &d->ws;
	const struct model_shape *m = &d->m;
	const uint32_t bound = length_bound(d, pass->max_length);
	const uint64_t each = attn_scratch_floats(1, bound, m->n_q_heads);
	const uint32_t most = (uint32_t)(s->attn_floats / each), head = m->n_q_heads * ATTN_DIM * 2;
	struct attn_decode_args a = {};

	a.max_length = bound;
	a.q_heads = m->n_q_heads;
	a.kv_heads = m->n_kv_heads;
	a.blocks = s->table;
	a.k = kv_at(d, index, 0);
	a.v = kv_at(d, index, 1);
	a.scratch = s->attn;
	for (uint32_t row = 0; row < pass->n_rows; row += a.n_rows) {
		int rc;

		a.rows = s->meta->attn + row;
		a.n_rows = pass->n_rows - row < most ? pass->n_rows - row : most;
		a.q = (char *)s->q + (size_t)row * head;
		a.gate = (char *)s->gate + (size_t)row * head;
		a.out = (char *)s->ao + (size_t)row * head;
		rc = attn_decode(&a, d->stream);
		if (rc)
			return rc;
	}
	return 0;
}

int attention_layer(struct cuda_device *d, const struct pass *pass, uint32_t layer)
{
	const struct layer_weights *w = &d->w.layer[layer];
	const struct workspace *s = &d->ws;
	const struct model_shape *m = &d->m;
	const uint32_t rows = pass->n_rows, index = d->index[layer];
	const uint32_t q = m->n_q_heads * ATTN_DIM, kv = m->n_kv_heads * ATTN_DIM, ld = attention_width(d);
	const char *u = (const char *)s->u;
	struct qk_rope_args r = {};
	int rc = multiply_stack(d, rows, w->mixer_in, s->h, s->u, ld);

	pass_mark(d, CLASS_ATTENTION_MATRIX);
	r.rows = s->meta->qk;
	r.n_rows = rows;
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
	r.q = s->q;
	r.gate = s->gate;
	r.k_cache = kv_at(d, index, 0);
	r.v_cache = kv_at(d, index, 1);
	rc = rc ? rc : qk_rope(&r, d->stream);
	rc = rc ? rc : attend(d, pass, index);
	pass_mark(d, CLASS_ATTENTION);
	rc = rc ? rc : multiply(d, rows, w->mixer_out, { s->ao, s->y, q, q, m->hidden, MATMUL_OUT_F32 });
	pass_mark(d, CLASS_ATTENTION_MATRIX);
	return rc;
}

/* x += what lies in y (or in the experts' outputs), h = norm of it. */
int add(struct cuda_device *d, uint32_t rows, const void *norm, struct residual_add_args a)
{
	int rc;

	a.x = d->ws.x;
	a.h = d->ws.h;
	a.norm = norm;
	a.rows = rows;
	a.width = d->m.hidden;
	a.eps = d->m.norm_eps;
	rc = residual_add(&a, d->stream);
	pass_mark(d, CLASS_RESIDUAL);
	return rc;
}

int dense_layer(struct cuda_device *d, uint32_t rows, uint32_t layer, const void *next_norm)
{
	const struct layer_weights *w = &d->w.layer[layer];
	const struct workspace *s = &d->ws;
	const uint32_t hidden = d->m.hidden, inter = d->m.dense_inter;
	struct residual_add_args a = {};
	int rc = multiply(d, rows, w->gate_up, { s->h, s->act, hidden, hidden, inter, MATMUL_OUT_SWIGLU });

	rc = rc ? rc : multiply(d, rows, w->down, { s->act, s->y, inter, inter, hidden, MATMUL_OUT_F32 });
	pass_mark(d, CLASS_SHARED);
	a.y = s->y;
	a.slots = 1;
	return rc ? rc : add(d, rows, next_norm, a);
}

__global__ void active_kernel(uint64_t *sum, const uint32_t *n, uint32_t shared)
{
	*sum += *n - shared;
}

/* The router, and the shared expert's gate and up: one product if they have one format. */
int multiply_router(struct cuda_device *d, uint32_t rows, const struct layer_weights *w)
{
	const struct workspace *s = &d->ws;
	const uint32_t hidden = d->m.hidden;
	const struct strided act = shared_act(d);
	const bool one = shared_in_follows(w);
	const struct decode_matmul_args router = args_of(rows, w->router, { s->h, s->router, hidden, hidden, w->router.n,
									    MATMUL_OUT_F32, one ? w->shared_in.n : 0,
									    act.ld, act.at });

	if (!w->shared_in.n || one)
		return decode_matmul(&router, d->stream);
	const struct decode_matmul_args shared = args_of(rows, w->shared_in,
							 { s->h, act.at, hidden, hidden, act.ld, MATMUL_OUT_SWIGLU });

	return decode_matmul_pair(&router, &shared, d->stream);
}

/* Then who goes where. */
int choose(struct cuda_device *d, uint32_t rows, const struct layer_weights *w, bool list_shared,
	   const struct expert_list *list)
{
	const struct workspace *s = &d->ws;
	const struct model_shape *m = &d->m;
	struct route_args c = {};
	int rc = multiply_router(d, rows, w);

	c.logits = s->router;
	c.rows = rows;
	c.experts = m->n_experts;
	c.stride = w->router.n;
	c.top = m->n_experts_used;
	c.shared = m->shared_inter != 0;
	c.list_shared = list_shared;
	c.ids = s->choice;
	c.weights = s->choice_weight;
	c.list = *list;
	rc = rc ? rc : route(&c, d->stream);
	if (d->profile)
		active_kernel<<<1, 1, 0, d->stream>>>(s->active, list->n_active, list_shared ? 1 : 0);
	pass_mark(d, CLASS_ROUTER);
	return rc;
}

/* list_shared: the shared expert is on the list; else its last product is done beside the others. */
int experts(struct cuda_device *d, uint32_t rows, const struct layer_weights *w, bool list_shared,
	    const struct expert_list *list)
{
	const struct workspace *s = &d->ws;
	const struct model_shape *m = &d->m;
	struct decode_experts_args a = {};
	int rc;

	a.w = w->expert_gate_up.w;
	a.row_scale = w->expert_gate_up.row_scale;
	a.format = w->expert_gate_up.format;
	a.x = s->h;
	a.y = s->act;
	a.list = list;
	a.n_rows = rows;
	a.n_slots = slots_of(d);
	a.n_experts = m->n_experts + (list_shared ? 1 : 0);
	a.n = 2 * m->expert_inter;
	a.k = m->hidden;
	a.ldx = m->hidden;
	a.ldy = m->expert_inter;
	a.out = MATMUL_OUT_SWIGLU;
	a.without_last = list_shared;
	rc = decode_experts(&a, d->stream);
	a.w = w->expert_down.w;
	a.row_scale = w->expert_down.row_scale;
	a.format = w->expert_down.format;
	a.x = s->act;
	a.y = s->expert_y;
	a.n = m->hidden;
	a.k = m->expert_inter;
	a.ldx = m->expert_inter;
	a.ldy = m->hidden;
	a.x_per_slot = 1;
	a.list_settled = 1;
	a.without_last = 0;
	a.out = MATMUL_OUT_F32;
	if (rc || !m->shared_inter || list_shared) {
		rc = rc ? rc : decode_experts(&a, d->stream);
	} else {
		const struct strided act = shared_act(d);
		const struct decode_matmul_args shared =
			args_of(rows, w->down, { act.at, s->expert_y + m->n_experts_used * m->hidden, m->shared_inter, act.ld,
						 slots_of(d) * m->hidden, MATMUL_OUT_F32 });

		rc = decode_experts_beside(&a, &shared, d->stream);
	}
	pass_mark(d, CLASS_EXPERTS);
	return rc;
}

int expert_layer(struct cuda_device *d, uint32_t rows, uint32_t layer, const void *next_norm)
{
	const struct layer_weights *w = &d->w.layer[layer];
	const struct workspace *s = &d->ws;
	const struct model_shape *m = &d->m;
	/* One of the experts while there are few rows; a matrix of its own when each of its tiles would be work
	 * for many.  The same bits. */
	const bool beside = rows <= SHARED_BESIDE_ROWS && d->w.shared_beside;
	const struct expert_list list = expert_list_at(s->list, rows, slots_of(d), m->n_experts + 1);
	struct residual_add_args a = {};
	int rc = choose(d, rows, w, beside, &list);

	rc = rc ? rc : experts(d, rows, w, beside, &list);
	a.y = s->expert_y;
	a.weight = s->choice_weight;
	a.slots = slots_of(d);
	return rc ? rc : add(d, rows, next_norm, a);
}

int layers(struct cuda_device *d, const struct pass *pass)
{
	const uint32_t rows = pass->n_rows;
	struct embed_rows_args e = {};
	struct residual_add_args a = {};
	int rc;

	e.rows = d->ws.meta->embed;
	e.last_sample = d->last_sample;
	e.embed = d->w.embed;
	e.norm = d->w.layer[0].input_norm;
	e.x = d->ws.x;
	e.h = d->ws.h;
	e.n_rows = rows;
	e.width = d->m.hidden;
	e.vocab = d->m.vocab_rows;
	e.eps = d->m.norm_eps;
	rc = embed_rows(&e, d->stream);
	pass_mark(d, CLASS_EMBED);
	a.y = d->ws.y;
	a.slots = 1;
	for (uint32_t l = 0; !rc && l < d->m.n_layers; l++) {
		const void *next = l + 1 < d->m.n_layers ? d->w.layer[l + 1].input_norm : d->w.final_norm;

		rc = d->m.mixer[l] == MIXER_GDN ? gdn_layer(d, pass, l) : attention_layer(d, pass, l);
		rc = rc ? rc : add(d, rows, d->w.layer[l].post_norm, a);
		rc = rc ? rc : d->m.n_experts ? expert_layer(d, rows, l, next) : dense_layer(d, rows, l, next);
	}
	return rc;
}

/* What happens only now and then, and is kept out of graphs. */
int extras(struct cuda_device *d, const struct pass *pass)
{
	for (const struct piece &p : pass->pieces) {
		struct count_args c = { d->counts + (size_t)p.slot * d->m.vocab_rows, d->ws.meta->token + p.row, p.n,
					d->m.vocab_rows, 0 };

		if (p.count && d->penalise[p.slot] && sample_count(&c, d->stream))
			return -ENODEV;
		if (p.logits &&
		    cudaMemcpyAsync(p.logits, d->ws.logits + (size_t)p.head * d->m.vocab_rows,
				    (size_t)p.n_head * d->m.vocab_rows * sizeof(float), cudaMemcpyDeviceToHost,
				    d->stream) != cudaSuccess)
			return -ENODEV;
	}
	return 0;
}

int forward_once(struct cuda_device *d, const struct pass *pass)
{
	int rc = layers(d, pass);

	rc = rc ? rc : pass_head(d, d->ws.h, d->ws.meta->head, pass->n_head);
	rc = rc ? rc : extras(d, pass);
	return rc ? rc : pass_samples(d, d->ws.meta->sample, pass->n_sample);
}

/* Graphs are few while batches are stable; when they are not, starting over bounds the memory. */
void graphs_bound(struct cuda_device *d)
{
	if (d->graphs.size() < 64)
		return;
	cudaStreamSynchronize(d->stream);
	for (auto &g : d->graphs)
		cudaGraphExecDestroy(g.second);
	d->graphs.clear();
}

/* A graph is made when a shape of pass comes the first time; only passes of decode rows. */
int forward_graph(struct cuda_device *d, const struct pass *pass)
{
	const std::vector<uint32_t> key = { pass->n_rows, pass->n_head, pass->n_sample,
					    length_bound(d, pass->max_length) };
	auto at = d->graphs.find(key);
	cudaGraph_t graph = NULL;
	cudaGraphExec_t exec;
	int rc;

	if (at != d->graphs.end())
		return cudaGraphLaunch(at->second, d->stream) == cudaSuccess ? 0 : -ENODEV;
	graphs_bound(d);
	if (cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeRelaxed) != cudaSuccess)
		return -ENODEV;
	rc = layers(d, pass);
	rc = rc ? rc : pass_head(d, d->ws.h, d->ws.meta->head, pass->n_head);
	rc = rc ? rc : pass_samples(d, d->ws.meta->sample, pass->n_sample);
	if (cudaStreamEndCapture(d->stream, &graph) != cudaSuccess || rc)
		return rc ? rc : -ENODEV;
	if (cudaGraphInstantiate(&exec, graph, 0) != cudaSuccess)
		rc = -ENODEV;
	cudaGraphDestroy(graph);
	if (rc)
		return rc;
	d->graphs[key] = exec;
	d->stats.graphs++;
	return cudaGraphLaunch(exec, d->stream) == cudaSuccess ? 0 : -ENODEV;
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

} /* namespace */

int pass_head(struct cuda_device *d, const void *h, const uint32_t *rows, uint32_t n)
{
	const struct workspace *s = &d->ws;
	int rc;

	if (!n)
		return 0;
	rc = gather_rows(h, rows, n, d->m.hidden, s->hn, d->stream);
	rc = rc ? rc : multiply(d, n, d->w.head, { s->hn, s->logits, d->m.hidden, d->m.hidden, d->m.vocab_rows,
						   MATMUL_OUT_F32 });
	pass_mark(d, CLASS_HEAD);
	return rc;
}

int pass_samples(struct cuda_device *d, const struct sample_row *rows, uint32_t n)
{
	struct sample_args a = {};
	int rc;

	if (!n)
		return 0;
	a.rows = rows;
	a.params = d->params;
	a.bias = d->bias;
	a.counts = d->counts;
	a.last_sample = d->last_sample;
	a.logits = d->ws.logits;
	a.keys = d->ws.keys;
	a.out = d->ws.out;
	a.n_rows = n;
	a.vocab = d->m.vocab_rows;
	a.n_ids = d->m.n_token_ids;
	rc = sample_rows(&a, d->stream);
	pass_mark(d, CLASS_SAMPLE);
	return rc;
}

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
	l.take(&w->out, few, sizeof(struct sample_out));
	l.take(&w->active, 1, 8);
	l.take(&w->x, rows * m->hidden, 2);
	l.take(&w->h, rows * m->hidden, 2);
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
	l.take(&w->act, m->n_experts ? pairs * m->expert_inter : rows * m->dense_inter, 2);
	/* Few rows in float32, many in bfloat16. */
	l.take(&w->expert_y, std::max(few * slots_of(d) * 2, pairs) * m->hidden, 2);
	l.take(&w->shared_act, rows * m->shared_inter, 2);
	l.take(&w->keys, few * SAMPLE_SEGMENTS, 8);
	l.take(&w->logits, few * m->vocab_rows, 4);
	w->attn_floats = one * few < ATTN_SCRATCH ? one * few : one > ATTN_SCRATCH ? one : ATTN_SCRATCH;
	l.take(&w->attn, w->attn_floats, 4);
	l.take(&w->prefill_list, m->n_experts ? prefill_list_bytes((uint32_t)rows, slots_of(d), m->n_experts + 1) : 0, 1);
	l.take(&w->gdn_room, m->gdn_k_heads ? gdn_prefill_room(m->gdn_k_heads, m->gdn_v_heads, chunks) : 0, 1);
	l.take(&w->attn_slots, attn_slots(d) ? attn_prefill_slot_floats(attn_slots(d), m->n_q_heads, m->n_kv_heads) : 0, 4);
	w->bytes = l.used;
}

int pass_forward(struct cuda_device *d, const struct pass *pass)
{
	bool plain = d->profile;

	for (const struct piece &p : pass->pieces)
		plain |= p.n != 1 || p.count || p.logits;
	return plain ? forward_once(d, pass) : forward_graph(d, pass);
}
