/* weights.cu - see weights.h.
 *
 * One walk over the shape serves three purposes: with no slab it adds up sizes, with a slab and a source it
 * uploads and packs, with a slab and no source it fills with numbers made from a counter. */
#include "kernels/cuda/weights.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <string.h>

#include <vector>

extern "C" {
#include "lib/err.h"
}
#include "kernels/cuda/decode_matmul.h"
#include "kernels/cuda/pack.h"
#include "kernels/noise.h"

namespace {

typedef __nv_bfloat16 bf16;

constexpr size_t STAGING = (size_t)64 << 20, ALIGN = 256;
static_assert(MATMUL_BF16_UNIT % ALIGN == 0, "packed matrices follow one another without a gap");

/* One piece of a stacked matrix. */
struct part {
	enum weight_slot slot;
	uint32_t expert, rows;
};

struct walk {
	const struct model_shape *m;
	const struct weight_source *source;	/* NULL: dummy */
	struct weights *w;
	size_t used;		/* of the slab */
	bool fill;
	char *staging;
	uint64_t seed, stream, done;
	device_progress *progress;
	void *ctx;
	struct err *e;
};

/* Sixteen bytes a thread: pack.h's place of (unit, step, lane), from row-major rows.  turns: the second half of
 * the rows are mixed with the first in turns of eight. */
__global__ void pack_kernel(const uint16_t *rows, uint32_t n_rows, uint32_t k, uint32_t slices, bool turns, uint4 *out,
			    size_t count)
{
	const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
	const uint32_t lane = i % 32, step = i / 32 % 16, g = lane / 4, q = lane % 4;
	const size_t unit = i / 512;
	uint32_t v[4];

	if (i >= count)
		return;
	for (uint32_t p = 0; p < 4; p++) {
		uint32_t row = (uint32_t)(unit / slices) * 16 + g + p % 2 * 8;
		uint32_t col = (uint32_t)(unit % slices) * 256 + step / 2 * 32 + 8 * q + step % 2 * 4 + p / 2 * 2;
		const uint32_t at = turns ? row / 16 * 8 + row % 8 + row % 16 / 8 * (n_rows / 2) : row;
		const uint16_t *from = rows + (size_t)at * k + col;

		v[p] = row < n_rows && col < k ? from[0] | (uint32_t)from[1] << 16 : 0;
	}
	out[i] = make_uint4(v[0], v[1], v[2], v[3]);
}

/* Uniform in (-scale, scale), a function of (seed, stream, element). */
__global__ void noise_kernel(uint2 *out, size_t count, uint64_t seed, uint32_t stream, float scale)
{
	const size_t step = (size_t)gridDim.x * blockDim.x;

	for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
		noise_words r = noise_philox(seed, (uint32_t)i, (uint32_t)(i >> 32), stream, 1);
		uint32_t v[4];

		for (int j = 0; j < 4; j++) {
			float u = ((float)(r.w[j] >> 9) + 0.5f) * (1.0f / 4194304.0f) - 1.0f;

			v[j] = __bfloat16_as_ushort(__float2bfloat16_rn(u * scale));
		}
		out[i] = make_uint2(v[0] | v[1] << 16, v[2] | v[3] << 16);
	}
}

int cuda_fail(struct walk *k, cudaError_t code)
{
	return err_set(k->e, -ENODEV, "loading weights: %s", cudaGetErrorString(code));
}

void *take(struct walk *k, size_t bytes)
{
	char *at = k->fill ? (char *)k->w->slab + k->used : NULL;

	k->used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
	return at;
}

int tell(struct walk *k, uint64_t bytes)
{
	k->done += bytes;
	return k->progress ? k->progress(k->ctx, k->done, k->source ? k->source->total_bytes : k->w->bytes) : 0;
}

int find(struct walk *k, enum weight_slot slot, uint32_t layer, uint32_t expert, uint32_t rows, uint32_t cols,
	 struct weight_ref *ret)
{
	int rc = k->source->find(k->source->ctx, slot, layer, expert, ret);

	if (rc)
		return err_set(k->e, rc, "weight slot %d of layer %u: not in the model", (int)slot, layer);
	if ((uint64_t)ret->rows * ret->cols != (uint64_t)rows * cols)
		return err_set(k->e, -EINVAL, "%s: %u x %u, not %u x %u", ret->name, ret->rows, ret->cols, rows,
			       cols);
	return 0;
}

/* ---- vectors ----------------------------------------------------------------- */

float element(const struct weight_ref *r, size_t i)
{
	uint32_t bits;
	uint16_t half;
	float x;

	if (r->format == WF_F32) {
		memcpy(&x, (const char *)r->data + 4 * i, 4);
		return x;
	}
	memcpy(&half, (const char *)r->data + 2 * i, 2);
	if (r->format == WF_F16) {
		__half_raw h;

		h.x = half;
		return __half2float(h);
	}
	bits = (uint32_t)half << 16;
	memcpy(&x, &bits, 4);
	return x;
}

/* A vector (or the small convolution matrix) as bf16 or float32; `dummy` where there is no source. */
int put_vector(struct walk *k, enum weight_slot slot, uint32_t layer, uint32_t n, bool wide, float dummy, void **ret)
{
	const size_t bytes = (size_t)n * (wide ? 4 : 2);
	struct weight_ref ref = {};
	cudaError_t code;
	int rc;

	*ret = take(k, bytes);
	if (!k->fill)
		return 0;
	if (k->source) {
		rc = find(k, slot, layer, 0, n, 1, &ref);
		if (rc)
			return rc;
	}
	std::vector<float> f(n);
	std::vector<bf16> h(n);
	for (uint32_t i = 0; i < n; i++) {
		f[i] = k->source ? element(&ref, i) : dummy;
		h[i] = __float2bfloat16_rn(f[i]);
	}
	code = cudaMemcpy(*ret, wide ? (void *)f.data() : (void *)h.data(), bytes, cudaMemcpyHostToDevice);
	return code == cudaSuccess ? tell(k, bytes) : cuda_fail(k, code);
}

/* ---- matrices ---------------------------------------------------------------- */

int dummy_fill(struct walk *k, void *to, size_t bytes, float scale)
{
	noise_kernel<<<4096, 256>>>((uint2 *)to, bytes / 8, k->seed, (uint32_t)k->stream++, scale);
	cudaError_t code = cudaGetLastError();
	return code == cudaSuccess ? tell(k, bytes) : cuda_fail(k, code);
}

/* How a matrix lies in device memory. */
enum layout {
	LAYOUT_ROWS,	/* row-major */
	LAYOUT_PACKED,
	LAYOUT_TURNS,	/* packed, the second half of the rows mixed with the first in turns of eight */
};

int stage(struct walk *k, size_t at, const void *from, size_t bytes)
{
	cudaError_t code = cudaMemcpy(k->staging + at, from, bytes, cudaMemcpyHostToDevice);

	return code == cudaSuccess ? 0 : cuda_fail(k, code);
}

/* Rows first..first+n of the stacked matrix into the staging area, from byte `at` on. */
int stage_rows(struct walk *k, const std::vector<weight_ref> &refs, uint32_t cols, uint32_t first, uint32_t n, size_t at)
{
	uint32_t begin = 0;

	for (const weight_ref &r : refs) {
		uint32_t from = first > begin ? first : begin, end = begin + r.rows;

		end = end < first + n ? end : first + n;
		if (from < end) {
			int rc = stage(k, at + (size_t)(from - first) * cols * 2,
				       (const char *)r.data + (size_t)(from - begin) * cols * 2,
				       (size_t)(end - from) * cols * 2);
			if (rc)
				return rc;
		}
		begin += r.rows;
	}
	return 0;
}

/* The n rows in the staging area to where they stay. */
int place(struct walk *k, uint32_t n, uint32_t cols, enum layout l, char **to)
{
	const uint32_t slices = (cols + MATMUL_SLICE - 1) / MATMUL_SLICE;
	const size_t count = (size_t)(n + MATMUL_TILE - 1) / MATMUL_TILE * slices * 512, bytes = (size_t)n * cols * 2;
	cudaError_t code;

	if (l == LAYOUT_ROWS) {
		code = cudaMemcpy(*to, k->staging, bytes, cudaMemcpyDeviceToDevice);
		*to += bytes;
	} else {
		pack_kernel<<<(uint32_t)((count + 255) / 256), 256>>>((uint16_t *)k->staging, n, cols, slices,
								      l == LAYOUT_TURNS, (uint4 *)*to, count);
		code = cudaGetLastError();
		*to += count * 16;
	}
	return code == cudaSuccess ? tell(k, bytes) : cuda_fail(k, code);
}

/* Uploads in chunks of whole row tiles. */
int upload(struct walk *k, const std::vector<weight_ref> &refs, uint32_t rows, uint32_t cols, enum layout l, void *to)
{
	const uint32_t each = l == LAYOUT_TURNS ? 2 : 1, all = rows / each;
	const uint32_t chunk = (uint32_t)(STAGING / 2 / cols / each) / MATMUL_TILE * MATMUL_TILE;
	char *out = (char *)to;
	int rc = 0;

	for (uint32_t first = 0; !rc && first < all; first += chunk) {
		uint32_t n = all - first < chunk ? all - first : chunk;

		rc = stage_rows(k, refs, cols, first, n, 0);
		if (!rc && l == LAYOUT_TURNS)
			rc = stage_rows(k, refs, cols, all + first, n, (size_t)n * cols * 2);
		rc = rc ? rc : place(k, n * each, cols, l, &out);
	}
	return rc;
}

uint32_t rows_of(const std::vector<part> &parts)
{
	uint32_t rows = 0;

	for (const part &p : parts)
		rows += p.rows;
	return rows;
}

int put_parts(struct walk *k, uint32_t layer, const std::vector<part> &parts, uint32_t cols, enum layout l, void *to)
{
	const uint32_t rows = rows_of(parts);
	const bool packed = l != LAYOUT_ROWS;
	std::vector<weight_ref> refs;

	if (!k->source)
		return dummy_fill(k, to, packed ? matmul_packed_bytes(MATMUL_BF16, rows, cols) : (size_t)rows * cols * 2,
				  packed ? sqrtf(3.0f / (float)cols) : 1.0f);
	for (const part &p : parts) {
		weight_ref ref = {};
		int rc = find(k, p.slot, layer, p.expert, p.rows, cols, &ref);

		if (rc)
			return rc;
		if (ref.format != WF_BF16)
			return err_set(k->e, -ENOTSUP, "%s: only BF16 matrices run on cuda yet", ref.name);
		ref.rows = p.rows;
		refs.push_back(ref);
	}
	return upload(k, refs, rows, cols, l, to);
}

int put_matrix(struct walk *k, uint32_t layer, const std::vector<part> &parts, uint32_t cols, enum layout l, void **ret)
{
	*ret = take(k, matmul_packed_bytes(MATMUL_BF16, rows_of(parts), cols));
	return k->fill ? put_parts(k, layer, parts, cols, l, *ret) : 0;
}

/* One matrix per expert, then maybe `shared`; their packed sizes need no padding between them. */
int put_experts(struct walk *k, uint32_t layer, std::vector<part> parts, const std::vector<part> *shared, uint32_t cols,
		enum layout l, void **ret)
{
	const size_t each = matmul_packed_bytes(MATMUL_BF16, rows_of(parts), cols);
	const uint32_t n = k->m->n_experts;
	int rc = 0;

	*ret = take(k, each * (n + (shared ? 1 : 0)));
	for (uint32_t e = 0; !rc && k->fill && e < n; e++) {
		for (part &p : parts)
			p.expert = e;
		rc = put_parts(k, layer, parts, cols, l, (char *)*ret + each * e);
	}
	return !rc && k->fill && shared ? put_parts(k, layer, *shared, cols, l, (char *)*ret + each * n) : rc;
}

/* ---- the walk ------------------------------------------------------------------ */

int walk_gdn(struct walk *k, uint32_t l, struct layer_weights *w)
{
	const struct model_shape *m = k->m;
	const uint32_t value = m->gdn_v_heads * m->gdn_head_dim;
	const uint32_t channels = 2 * m->gdn_k_heads * m->gdn_head_dim + value;
	int rc = put_matrix(k, l, { { W_GDN_QKV, 0, channels }, { W_GDN_Z, 0, value }, { W_GDN_B, 0, m->gdn_v_heads },
				    { W_GDN_A, 0, m->gdn_v_heads } }, m->hidden, LAYOUT_PACKED, &w->mixer_in);

	rc = rc ? rc : put_vector(k, W_GDN_CONV, l, channels * m->gdn_conv_width, false, 0.25f, &w->conv);
	rc = rc ? rc : put_vector(k, W_GDN_A_LOG, l, m->gdn_v_heads, true, 0.5f, (void **)&w->a_log);
	rc = rc ? rc : put_vector(k, W_GDN_DT_BIAS, l, m->gdn_v_heads, true, -3.0f, (void **)&w->dt_bias);
	rc = rc ? rc : put_vector(k, W_GDN_NORM, l, m->gdn_head_dim, false, 1, &w->gdn_norm);
	return rc ? rc : put_matrix(k, l, { { W_GDN_OUT, 0, m->hidden } }, value, LAYOUT_PACKED, &w->mixer_out);
}

int walk_attention(struct walk *k, uint32_t l, struct layer_weights *w)
{
	const struct model_shape *m = k->m;
	const uint32_t q = m->n_q_heads * m->head_dim, kv = m->n_kv_heads * m->head_dim;
	int rc = put_matrix(k, l, { { W_Q, 0, 2 * q }, { W_K, 0, kv }, { W_V, 0, kv } }, m->hidden, LAYOUT_PACKED,
			    &w->mixer_in);

	rc = rc ? rc : put_vector(k, W_Q_NORM, l, m->head_dim, false, 0, &w->q_norm);
	rc = rc ? rc : put_vector(k, W_K_NORM, l, m->head_dim, false, 0, &w->k_norm);
	return rc ? rc : put_matrix(k, l, { { W_O, 0, m->hidden } }, q, LAYOUT_PACKED, &w->mixer_out);
}

int walk_experts(struct walk *k, uint32_t l, struct layer_weights *w)
{
	const struct model_shape *m = k->m;
	const std::vector<part> shared_in = { { W_SHARED_GATE, 0, m->shared_inter }, { W_SHARED_UP, 0, m->shared_inter } };
	const std::vector<part> shared_out = { { W_SHARED_DOWN, 0, m->hidden } };
	const bool beside = weights_shared_beside(m);
	std::vector<part> router = { { W_ROUTER, 0, m->n_experts } };
	void *follows;	/* what lies right behind */
	int rc;

	if (m->shared_inter)
		router.push_back({ W_SHARED_SCORE, 0, 1 });
	rc = put_matrix(k, l, router, m->hidden, LAYOUT_PACKED, &w->router);
	if (m->shared_inter)
		rc = rc ? rc : put_matrix(k, l, shared_in, m->hidden, LAYOUT_TURNS, &follows);
	rc = rc ? rc : put_experts(k, l, { { W_EXPERT_GATE, 0, m->expert_inter }, { W_EXPERT_UP, 0, m->expert_inter } },
				   NULL, m->hidden, LAYOUT_TURNS, &w->expert_gate_up);
	rc = rc ? rc : put_experts(k, l, { { W_EXPERT_DOWN, 0, m->hidden } }, beside ? &shared_out : NULL, m->expert_inter,
				   LAYOUT_PACKED, &w->expert_down);
	if (rc || !m->shared_inter)
		return rc;
	if (!beside)
		return put_matrix(k, l, shared_out, m->shared_inter, LAYOUT_PACKED, &w->down);
	if (k->fill)
		w->down = (char *)w->expert_down +
			  m->n_experts * matmul_packed_bytes(MATMUL_BF16, m->hidden, m->expert_inter);
	return 0;
}

int walk_dense(struct walk *k, uint32_t l, struct layer_weights *w)
{
	const struct model_shape *m = k->m;
	int rc = put_matrix(k, l, { { W_MLP_GATE, 0, m->dense_inter }, { W_MLP_UP, 0, m->dense_inter } }, m->hidden,
			    LAYOUT_TURNS, &w->gate_up);

	return rc ? rc : put_matrix(k, l, { { W_MLP_DOWN, 0, m->hidden } }, m->dense_inter, LAYOUT_PACKED, &w->down);
}

int walk_model(struct walk *k)
{
	const struct model_shape *m = k->m;
	int rc;

	k->w->embed = take(k, (size_t)m->vocab_rows * m->hidden * 2);
	rc = k->fill ? put_parts(k, 0, { { W_EMBED, 0, m->vocab_rows } }, m->hidden, LAYOUT_ROWS, k->w->embed) : 0;
	rc = rc ? rc : put_matrix(k, 0, { { W_HEAD, 0, m->vocab_rows } }, m->hidden, LAYOUT_PACKED, &k->w->head);
	rc = rc ? rc : put_vector(k, W_FINAL_NORM, 0, m->hidden, false, 0, &k->w->final_norm);
	for (uint32_t l = 0; !rc && l < m->n_layers; l++) {
		struct layer_weights *w = &k->w->layer[l];

		rc = put_vector(k, W_INPUT_NORM, l, m->hidden, false, 0, &w->input_norm);
		rc = rc ? rc : put_vector(k, W_POST_NORM, l, m->hidden, false, 0, &w->post_norm);
		rc = rc ? rc : m->mixer[l] == MIXER_GDN ? walk_gdn(k, l, w) : walk_attention(k, l, w);
		rc = rc ? rc : m->n_experts ? walk_experts(k, l, w) : walk_dense(k, l, w);
	}
	return rc;
}

} /* namespace */

bool weights_shared_beside(const struct model_shape *m)
{
	return m->shared_inter && m->shared_inter == m->expert_inter && m->n_experts < MATMUL_MAX_EXPERTS;
}

size_t weights_bytes(const struct model_shape *shape)
{
	struct weights w = {};
	struct walk k = {};

	k.m = shape;
	k.w = &w;
	walk_model(&k);
	return k.used;
}

int weights_load(const struct model_shape *shape, const struct weight_source *source, uint64_t seed,
		 device_progress *progress, void *ctx, struct weights *ret, struct err *e)
{
	struct weights w = {};
	struct walk k = {};
	int rc;

	k.m = shape;
	k.source = source;
	k.w = &w;
	k.fill = true;
	k.seed = seed;
	k.progress = progress;
	k.ctx = ctx;
	k.e = e;
	w.bytes = weights_bytes(shape);
	if (cudaMalloc(&w.slab, w.bytes) != cudaSuccess || cudaMalloc((void **)&k.staging, STAGING) != cudaSuccess) {
		cudaGetLastError();
		cudaFree(w.slab);
		return err_set(e, -ENOMEM, "no %zu bytes of device memory for the weights", w.bytes);
	}
	rc = walk_model(&k);
	if (!rc && cudaDeviceSynchronize() != cudaSuccess)
		rc = cuda_fail(&k, cudaGetLastError());
	cudaFree(k.staging);
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
