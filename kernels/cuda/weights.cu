/* weights.cu - see weights.h: which matrices a model has, and how they are stacked. */
#include "kernels/cuda/weights.h"

#include <cuda_runtime.h>

#include "kernels/cuda/decode_matmul.h"
#include "kernels/cuda/loader.h"
#include "kernels/dummy.h"

extern "C" {
#include "lib/err.h"
}

namespace {

int walk_gdn(struct loader *k, const struct model_shape *m, uint32_t l, struct layer_weights *w)
{
	const uint32_t value = m->gdn_v_heads * m->gdn_head_dim;
	const uint32_t channels = 2 * m->gdn_k_heads * m->gdn_head_dim + value;
	int rc = put_stack(k, l, { { W_GDN_QKV, 0, channels }, { W_GDN_Z, 0, value }, { W_GDN_B, 0, m->gdn_v_heads },
				   { W_GDN_A, 0, m->gdn_v_heads } }, m->hidden, &w->mixer_in);

	rc = rc ? rc : put_vector(k, W_GDN_CONV, l, channels * m->gdn_conv_width, false, &w->conv);
	rc = rc ? rc : put_vector(k, W_GDN_A_LOG, l, m->gdn_v_heads, true, (void **)&w->a_log);
	rc = rc ? rc : put_vector(k, W_GDN_DT_BIAS, l, m->gdn_v_heads, true, (void **)&w->dt_bias);
	rc = rc ? rc : put_vector(k, W_GDN_NORM, l, m->gdn_head_dim, false, &w->gdn_norm);
	return rc ? rc : put_matrix(k, l, { { W_GDN_OUT, 0, m->hidden } }, value, LAYOUT_PACKED, &w->mixer_out);
}

int walk_attention(struct loader *k, const struct model_shape *m, uint32_t l, struct layer_weights *w)
{
	const uint32_t q = m->n_q_heads * m->head_dim, kv = m->n_kv_heads * m->head_dim;
	int rc = put_stack(k, l, { { W_Q, 0, 2 * q }, { W_K, 0, kv }, { W_V, 0, kv } }, m->hidden, &w->mixer_in);

	rc = rc ? rc : put_vector(k, W_Q_NORM, l, m->head_dim, false, &w->q_norm);
	rc = rc ? rc : put_vector(k, W_K_NORM, l, m->head_dim, false, &w->k_norm);
	return rc ? rc : put_matrix(k, l, { { W_O, 0, m->hidden } }, q, LAYOUT_PACKED, &w->mixer_out);
}

/* Router and score are never quantised by the recipes in use; one that is becomes BF16. */
int walk_router(struct loader *k, const struct model_shape *m, uint32_t l, struct layer_weights *w)
{
	std::vector<part> router = { { W_ROUTER, 0, m->n_experts } };

	if (m->shared_inter)
		router.push_back({ W_SHARED_SCORE, 0, 1 });
	return put_matrix(k, l, router, m->hidden, LAYOUT_PACKED, &w->router);
}

int walk_experts(struct loader *k, const struct model_shape *m, uint32_t l, bool beside, struct layer_weights *w)
{
	const std::vector<part> shared_in = { { W_SHARED_GATE, 0, m->shared_inter }, { W_SHARED_UP, 0, m->shared_inter } };
	const std::vector<part> shared_out = { { W_SHARED_DOWN, 0, m->hidden } };
	int rc = walk_router(k, m, l, w);

	if (m->shared_inter)
		rc = rc ? rc : put_matrix(k, l, shared_in, m->hidden, LAYOUT_TURNS, &w->shared_in);
	rc = rc ? rc : put_experts(k, l, m->n_experts,
				   { { W_EXPERT_GATE, 0, m->expert_inter }, { W_EXPERT_UP, 0, m->expert_inter } }, NULL,
				   m->hidden, LAYOUT_TURNS, &w->expert_gate_up);
	rc = rc ? rc : put_experts(k, l, m->n_experts, { { W_EXPERT_DOWN, 0, m->hidden } }, beside ? &shared_out : NULL,
				   m->expert_inter, LAYOUT_PACKED, &w->expert_down);
	if (rc || !m->shared_inter)
		return rc;
	if (!beside)
		return put_matrix(k, l, shared_out, m->shared_inter, LAYOUT_PACKED, &w->down);
	w->down = w->expert_down;
	if (k->slab) {
		const size_t rows = (m->hidden + MATMUL_TILE - 1) / MATMUL_TILE * MATMUL_TILE;

		w->down.w = (char *)w->down.w + m->n_experts * matmul_packed_bytes(w->down.format, m->hidden, m->expert_inter);
		w->down.row_scale += w->down.row_scale ? m->n_experts * rows : 0;
	}
	return 0;
}

int walk_dense(struct loader *k, const struct model_shape *m, uint32_t l, struct layer_weights *w)
{
	int rc = put_matrix(k, l, { { W_MLP_GATE, 0, m->dense_inter }, { W_MLP_UP, 0, m->dense_inter } }, m->hidden,
			    LAYOUT_TURNS, &w->gate_up);

	return rc ? rc : put_matrix(k, l, { { W_MLP_DOWN, 0, m->hidden } }, m->dense_inter, LAYOUT_PACKED, &w->down);
}

int walk_model(struct loader *k, const struct model_shape *m, struct weights *w)
{
	int rc = put_rows(k, W_EMBED, m->vocab_rows, m->hidden, &w->embed);

	rc = rc ? rc : put_matrix(k, 0, { { W_HEAD, 0, m->vocab_rows } }, m->hidden, LAYOUT_PACKED, &w->head);
	rc = rc ? rc : put_vector(k, W_FINAL_NORM, 0, m->hidden, false, &w->final_norm);
	for (uint32_t l = 0; !rc && l < m->n_layers; l++) {
		struct layer_weights *x = &w->layer[l];

		rc = put_vector(k, W_INPUT_NORM, l, m->hidden, false, &x->input_norm);
		rc = rc ? rc : put_vector(k, W_POST_NORM, l, m->hidden, false, &x->post_norm);
		rc = rc ? rc : m->mixer[l] == MIXER_GDN ? walk_gdn(k, m, l, x) : walk_attention(k, m, l, x);
		rc = rc ? rc : m->n_experts ? walk_experts(k, m, l, w->shared_beside, x) : walk_dense(k, m, l, x);
	}
	return rc;
}

/* The shared expert's last matrix can be one more of the experts': the same width, and the same format in every layer. */
bool shared_beside(struct loader *k, const struct model_shape *m)
{
	if (!m->shared_inter || m->shared_inter != m->expert_inter || m->n_experts >= MATMUL_MAX_EXPERTS)
		return false;
	for (uint32_t l = 0; l < m->n_layers; l++) {
		struct weight_ref shared, expert;

		if (loader_find(k, W_SHARED_DOWN, l, 0, m->hidden, m->shared_inter, &shared))
			return false;
		for (uint32_t e = 0; e < m->n_experts; e++)
			if (loader_find(k, W_EXPERT_DOWN, l, e, m->hidden, m->expert_inter, &expert) ||
			    loader_format(&expert) != loader_format(&shared))
				return false;
	}
	return true;
}

size_t bytes_of(const struct matrix *x, uint32_t k)
{
	return x->n ? matmul_packed_bytes(x->format, x->n, k) : 0;
}

/* What a step reads of the matrices. */
void count_reads(const struct model_shape *m, struct weights *w)
{
	const uint32_t value = m->gdn_v_heads * m->gdn_head_dim, q = m->n_q_heads * m->head_dim;

	w->step_bytes = bytes_of(&w->head, m->hidden);
	for (uint32_t l = 0; l < m->n_layers; l++) {
		const struct layer_weights *x = &w->layer[l];

		for (uint32_t i = 0; i < x->mixer_in.n_parts; i++)
			w->step_bytes += bytes_of(&x->mixer_in.part[i], m->hidden);
		w->step_bytes += bytes_of(&x->mixer_out, m->mixer[l] == MIXER_GDN ? value : q) +
				 bytes_of(&x->router, m->hidden) + bytes_of(&x->shared_in, m->hidden) +
				 bytes_of(&x->gate_up, m->hidden) +
				 bytes_of(&x->down, m->n_experts ? m->shared_inter : m->dense_inter);
		w->expert_bytes += bytes_of(&x->expert_gate_up, m->hidden) + bytes_of(&x->expert_down, m->expert_inter);
	}
	w->expert_bytes /= m->n_layers;
}

/* Sizes: the first of the two walks. */
int measure(const struct model_shape *m, const struct weight_source *source, struct weights *w, struct loader *k)
{
	int rc;

	k->source = source;
	w->shared_beside = shared_beside(k, m);
	rc = walk_model(k, m, w);
	w->bytes = k->used;
	w->expanded = k->expanded;
	count_reads(m, w);
	return rc;
}

} /* namespace */

size_t weights_bytes(const struct model_shape *shape, const struct weight_source *source)
{
	struct loader k = {};
	struct weights w = {};
	struct err e = {};
	struct dummy plain = { *shape, DUMMY_BF16, 0 };
	const struct weight_source all = dummy_source(&plain);

	k.e = &e;
	measure(shape, source ? source : &all, &w, &k);
	return w.bytes;
}

int weights_load(const struct model_shape *shape, const struct weight_source *source,
		 device_progress *progress, void *ctx, struct weights *ret, struct err *e)
{
	struct loader sizes = {}, k = {};
	struct weights w = {};
	int rc;

	sizes.e = k.e = e;
	rc = measure(shape, source, &w, &sizes);
	if (rc)
		return rc;
	k.source = source;
	k.progress = progress;
	k.ctx = ctx;
	k.pieces.swap(sizes.pieces);
	k.total = source->total_bytes ? source->total_bytes : w.bytes;
	if (cudaMalloc(&w.slab, w.bytes) != cudaSuccess) {
		cudaGetLastError();
		return err_set(e, -ENOMEM, "no %zu bytes of device memory for the weights", w.bytes);
	}
	k.slab = (char *)w.slab;
	rc = loader_begin(&k);
	rc = loader_end(&k, rc ? rc : walk_model(&k, shape, &w));
	if (rc)
		weights_free(&w);
	else
		*ret = w;
	return rc;
}

void weights_free(struct weights *w)
{
	cudaFree(w->slab);
	w->slab = NULL;
}
