/* forward.cu - a pass through the layers: which kernel, in which order (docs/numerics.md 2). */
#include "kernels/cuda/forward_int.h"

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

struct decode_matmul_args product_args(uint32_t rows, const struct matrix &w,
				       const struct product &p)
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
	const struct decode_matmul_args a = product_args(rows, w, p);

	return decode_matmul(&a, d->stream);
}

uint32_t mixer_in_args(const struct cuda_device *d, uint32_t rows, uint32_t layer, struct decode_matmul_args *ret)
{
	const struct stack &s = d->w.layer[layer].mixer_in;
	const uint32_t ld = d->m.mixer[layer] == MIXER_GDN ? gdn_ld(d) : attention_width(d);
	uint16_t *to = (uint16_t *)d->ws.u;

	for (uint32_t i = 0; i < s.n_parts; to += s.part[i++].n)
		ret[i] = product_args(rows, s.part[i],
				      { d->ws.h, to, d->m.hidden, d->m.hidden, ld, MATMUL_OUT_BF16 });
	return s.n_parts;
}

bool mixer_orders(const struct cuda_device *d, uint32_t rows, uint32_t layer)
{
	struct decode_matmul_args a[STACK_MAX];

	if (layer >= d->m.n_layers)
		return false;

	const uint32_t n = mixer_in_args(d, rows, layer, a);
	bool yes = n != 2 && d->m.hidden % 32 == 0;

	for (uint32_t i = 0; i < n; i++)
		yes = yes && decode_matmul_orders(&a[i]);
	return yes;
}

/* The products that begin a layer, side by side in bf16 rows. */
static int multiply_mixer(struct cuda_device *d, uint32_t rows, uint32_t layer)
{
	struct decode_matmul_args a[STACK_MAX];
	const uint32_t n = mixer_in_args(d, rows, layer, a);
	const bool ordered = mixer_orders(d, rows, layer);
	int rc = 0;

	if (expert_began(d, rows, layer))
		return 0;
	for (uint32_t i = 0; i < n; i++)
		a[i].x_ordered = ordered;
	if (n == 2)
		return decode_matmul_pair(&a[0], &a[1], d->stream);
	for (uint32_t i = 0; !rc && i < n; i++)
		rc = decode_matmul(&a[i], d->stream);
	return rc;
}

struct decode_matmul_args mixer_out_args(const struct cuda_device *d, uint32_t rows, uint32_t layer)
{
	const bool gdn = d->m.mixer[layer] == MIXER_GDN;
	const uint32_t k = gdn ? d->value : d->m.n_q_heads * ATTN_DIM;

	return product_args(rows, d->w.layer[layer].mixer_out,
			    { gdn ? d->ws.og : d->ws.ao, d->ws.y, k, k, d->m.hidden, MATMUL_OUT_F32 });
}

/* Whether what a mixer leaves is wanted in the order of steps (decode_matmul_orders()). */
static bool mixer_out_orders(const struct cuda_device *d, uint32_t rows, uint32_t layer)
{
	const struct decode_matmul_args a = mixer_out_args(d, rows, layer);

	return !expert_ends_mixers(d, rows) && decode_matmul_orders(&a);
}

/* What a mixer leaves: through its last matrix, onto the residual rows, and normed for what follows.  Where that is
 * one kernel a profile has residual, norm, router and shared gate and up with the mixer's matrices. */
static int end_mixer(struct cuda_device *d, uint32_t rows, uint32_t layer, enum cuda_class c)
{
	struct decode_matmul_args out = mixer_out_args(d, rows, layer);
	struct residual_add_args a = {};
	int rc;

	if (expert_ends_mixers(d, rows)) {
		rc = expert_mixer_end(d, rows, layer);
		pass_mark(d, c);
		return rc;
	}
	out.x_ordered = mixer_out_orders(d, rows, layer);
	rc = decode_matmul(&out, d->stream);
	pass_mark(d, c);
	a.y = d->ws.y;
	a.slots = 1;
	if (d->m.n_experts)
		expert_clear(d, rows, layer, &a);
	return rc ? rc : pass_add(d, rows, d->w.layer[layer].post_norm, a);
}

static int gdn_layer(struct cuda_device *d, const struct pass *pass, uint32_t layer)
{
	const struct layer_weights *w = &d->w.layer[layer];
	const struct workspace *s = &d->ws;
	const struct model_shape *m = &d->m;
	const uint32_t rows = pass->n_rows, index = d->index[layer], ld = gdn_ld(d);
	const char *u = (const char *)s->u;
	struct gdn_step_args g = {};
	int rc = multiply_mixer(d, rows, layer);

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
	g.kept = kept_at(d, index, 0);
	g.norm_w = w->gdn_norm;
	g.eps = m->norm_eps;
	g.out = s->og;
	g.ordered = mixer_out_orders(d, rows, layer);
	rc = rc ? rc : gdn_step(&g, d->stream);
	pass_mark(d, CLASS_GDN);
	return rc ? rc : end_mixer(d, rows, layer, CLASS_GDN_MATRIX);
}

/* A longer bound decides no bit; powers of two keep graphs few. */
uint32_t pass_length_bound(const struct cuda_device *d, uint32_t length)
{
	uint32_t bound = 256;

	while (bound < length)
		bound *= 2;
	return bound < d->limits.max_context ? bound : d->limits.max_context;
}

static int attend(struct cuda_device *d, const struct pass *pass, uint32_t index, int ordered)
{
	const struct workspace *s = &d->ws;
	const struct model_shape *m = &d->m;
	const uint32_t bound = pass_length_bound(d, pass->max_length);
	const uint64_t each = attn_scratch_floats(1, bound, m->n_q_heads);
	const uint32_t most = (uint32_t)(s->attn_floats / each), head = m->n_q_heads * ATTN_DIM * 2;
	struct attn_decode_args a = {};

	a.max_length = bound;
	a.q_heads = m->n_q_heads;
	a.kv_heads = m->n_kv_heads;
	a.blocks = s->table;
	a.k = kv_at(d, index, 0);
	a.v = kv_at(d, index, 1);
	a.kv = d->limits.kv;
	a.ordered = ordered;
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

static int attention_layer(struct cuda_device *d, const struct pass *pass, uint32_t layer)
{
	const struct layer_weights *w = &d->w.layer[layer];
	const struct workspace *s = &d->ws;
	const struct model_shape *m = &d->m;
	const uint32_t rows = pass->n_rows, index = d->index[layer];
	const uint32_t q = m->n_q_heads * ATTN_DIM, kv = m->n_kv_heads * ATTN_DIM,
		       ld = attention_width(d);
	const char *u = (const char *)s->u;
	struct qk_rope_args r = {};
	int rc = multiply_mixer(d, rows, layer);

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
	r.kv = d->limits.kv;
	r.eps = m->norm_eps;
	r.q = s->q;
	r.gate = s->gate;
	r.k_cache = kv_at(d, index, 0);
	r.v_cache = kv_at(d, index, 1);
	rc = rc ? rc : qk_rope(&r, d->stream);
	rc = rc ? rc : attend(d, pass, index, mixer_out_orders(d, rows, layer));
	pass_mark(d, CLASS_ATTENTION);
	return rc ? rc : end_mixer(d, rows, layer, CLASS_ATTENTION_MATRIX);
}

/* x += what lies in y (or in the experts' outputs), h = norm of it. */
int pass_add(struct cuda_device *d, uint32_t rows, const void *norm, struct residual_add_args a)
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

static int dense_layer(struct cuda_device *d, uint32_t rows, uint32_t layer, const void *next_norm)
{
	const struct layer_weights *w = &d->w.layer[layer];
	const struct workspace *s = &d->ws;
	const uint32_t hidden = d->m.hidden, inter = d->m.dense_inter;
	struct residual_add_args a = {};
	int rc = multiply(d, rows, w->gate_up,
			  { s->h, s->act, hidden, hidden, inter, MATMUL_OUT_SWIGLU });

	rc = rc ? rc :
		  multiply(d, rows, w->down,
			   { s->act, s->y, inter, inter, hidden, MATMUL_OUT_F32 });
	pass_mark(d, CLASS_SHARED);
	a.y = s->y;
	a.slots = 1;
	a.ordered = mixer_orders(d, rows, layer + 1);
	return rc ? rc : pass_add(d, rows, next_norm, a);
}

int pass_layers(struct cuda_device *d, const struct pass *pass)
{
	const uint32_t rows = pass->n_rows;
	struct embed_rows_args e = {};
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
	e.ordered = mixer_orders(d, rows, 0);
	rc = embed_rows(&e, d->stream);
	pass_mark(d, CLASS_EMBED);
	for (uint32_t l = 0; !rc && l < d->m.n_layers; l++) {
		const void *next =
			l + 1 < d->m.n_layers ? d->w.layer[l + 1].input_norm : d->w.final_norm;

		rc = d->m.mixer[l] == MIXER_GDN ? gdn_layer(d, pass, l) :
						  attention_layer(d, pass, l);
		rc = rc		    ? rc :
		     d->m.n_experts ? expert_layer(d, rows, l, next) :
				      dense_layer(d, rows, l, next);
	}
	return rc;
}

static struct decode_matmul_args head_args(const struct cuda_device *d, uint32_t n)
{
	return product_args(n, d->w.head,
			    { d->ws.hn, d->ws.logits, d->m.hidden, d->m.hidden, d->m.vocab_rows,
			      MATMUL_OUT_F32 });
}

bool head_orders(const struct cuda_device *d, uint32_t n)
{
	const struct decode_matmul_args a = head_args(d, n);

	return n && decode_matmul_orders(&a);
}

int pass_head(struct cuda_device *d, const void *h, const uint32_t *rows, uint32_t n)
{
	const struct workspace *s = &d->ws;
	struct decode_matmul_args a = head_args(d, n);
	int rc;

	if (!n)
		return 0;
	a.x_ordered = head_orders(d, n);
	rc = gather_rows(h, rows, n, d->m.hidden, a.x_ordered, s->hn, d->stream);
	rc = rc ? rc : decode_matmul(&a, d->stream);
	if (!rc && d->limits.digests &&
	    cudaMemcpyAsync(s->raw_logits, s->logits, (size_t)n * d->m.vocab_rows * 4,
			    cudaMemcpyDeviceToDevice, d->stream) != cudaSuccess)
		rc = -ENODEV;
	pass_mark(d, CLASS_HEAD);
	return rc;
}
