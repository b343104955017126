/* reference_model.h - a small random model of the family, and its logits by plain loops in double with the
 * rounding points of docs/numerics.md. */
#ifndef HEARTH_TESTS_GPU_REFERENCE_MODEL_H
#define HEARTH_TESTS_GPU_REFERENCE_MODEL_H

#include <map>
#include <tuple>

#include "kernels/cpu/dequant.h"
#include "kernels/dummy.h"
#include "kernels/model.h"
#include "kernels/noise.h"
#include "tests/gpu/gpu_test.h"
#include "tests/gpu/kv_reference.h"

typedef std::vector<double> row;

struct tensor {
	uint32_t rows, cols;
	bool wide;			/* float32, else bf16 */
	std::vector<uint16_t> half;
	std::vector<float> full;
	struct weight_ref packed;	/* what a checkpoint has instead, where codes are there */
	std::vector<uint8_t> codes, scale;
	std::vector<uint16_t> wide_scale;

	double at(size_t i) const
	{
		uint32_t bits = wide ? 0 : (uint32_t)half[i] << 16;
		float x;

		memcpy(&x, &bits, 4);
		return wide ? (double)full[i] : (double)x;
	}
};

struct model {
	struct model_shape shape;
	std::map<std::tuple<int, uint32_t, uint32_t>, tensor> weights;

	const tensor &get(int slot, uint32_t layer = 0, uint32_t expert = 0) const
	{
		return weights.at(std::make_tuple(slot, layer, expert));
	}

	static int find(void *ctx, enum weight_slot slot, uint32_t layer, uint32_t expert, struct weight_ref *ret)
	{
		const struct model *m = (const struct model *)ctx;
		auto at = m->weights.find(std::make_tuple((int)slot, layer, expert));

		if (at == m->weights.end())
			return -2;
		ret->format = at->second.wide ? WF_F32 : WF_BF16;
		ret->rows = at->second.rows;
		ret->cols = at->second.cols;
		ret->data = at->second.wide ? (const void *)at->second.full.data() : at->second.half.data();
		if (!at->second.codes.empty()) {
			*ret = at->second.packed;
			ret->data = at->second.codes.data();
			ret->scale = ret->format == WF_NVFP4 ? (const void *)at->second.scale.data() :
							       at->second.wide_scale.data();
		}
		ret->name = weight_slot_name(slot);
		return 0;
	}

	struct weight_source source(void) const
	{
		return { (void *)this, find, 0, nullptr };
	}

	void put(int slot, uint32_t layer, uint32_t expert, uint32_t rows, uint32_t cols, float scale, float base = 0,
		 bool wide = false)
	{
		tensor t = { rows, cols, wide, {}, {}, {}, {}, {}, {} };
		const uint32_t stream = (uint32_t)weights.size();

		for (uint32_t i = 0; i < rows * cols; i++) {
			float u = (float)(noise_philox(1, i, stream, 3, 3).w[0] >> 8) / 8388608.0f - 1;
			float x = base + scale * u;

			if (wide)
				t.full.push_back(x);
			else
				t.half.push_back(__bfloat16_as_ushort(__float2bfloat16_rn(x)));
		}
		weights[std::make_tuple(slot, layer, expert)] = t;
	}
};

/* ---- quantised ---------------------------------------------------------------------- */

/* The code whose value is nearest; `bits` 8: e4m3, 4: e2m1. */
static inline uint8_t nearest(double x, int bits)
{
	const int n = bits == 8 ? 127 : 8;
	int best = 0;

	for (int i = 1, step = n; i < n && step; i++) {
		const double a = bits == 8 ? (double)dequant_e4m3((uint8_t)i) : (double)dequant_e2m1((uint8_t)i);
		const double b = bits == 8 ? (double)dequant_e4m3((uint8_t)best) : (double)dequant_e2m1((uint8_t)best);

		if (fabs(fabs(x) - a) < fabs(fabs(x) - b))
			best = i;
		else
			step = 0;	/* values rise: past the nearest */
	}
	return (uint8_t)(best | (x < 0 ? 1 << (bits - 1) : 0));
}

static inline double largest(const tensor &t, uint32_t row, uint32_t rows, uint32_t col, uint32_t cols)
{
	double most = 0;

	for (uint32_t r = row; r < std::min(row + rows, t.rows); r++)
		for (uint32_t c = col; c < std::min(col + cols, t.cols); c++)
			most = std::max(most, fabs(t.at((size_t)r * t.cols + c)));
	return most;
}

/* FP8 with a BF16 scale for each span_rows x span_cols; the tensor's values become what that means. */
static inline void quantise_fp8(tensor *t, uint32_t span_rows, uint32_t span_cols)
{
	const uint32_t across = (t->cols + span_cols - 1) / span_cols;
	tensor q = *t;

	q.packed = {};
	q.packed.format = WF_FP8;
	q.packed.rows = t->rows;
	q.packed.cols = t->cols;
	q.packed.scale_format = WF_BF16;
	q.packed.span_rows = span_rows;
	q.packed.span_cols = span_cols;
	q.packed.global = 1;
	q.wide = true;
	q.full.resize((size_t)t->rows * t->cols);
	q.codes.resize(q.full.size());
	q.wide_scale.resize((size_t)((t->rows + span_rows - 1) / span_rows) * across);
	for (uint32_t r = 0; r < t->rows; r += span_rows)
		for (uint32_t c = 0; c < t->cols; c += span_cols) {
			const float s = to_bf16((float)(largest(*t, r, span_rows, c, span_cols) / 448));

			q.wide_scale[r / span_rows * across + c / span_cols] = __bfloat16_as_ushort(__float2bfloat16_rn(s));
			for (uint32_t i = r; i < std::min(r + span_rows, t->rows); i++)
				for (uint32_t j = c; j < std::min(c + span_cols, t->cols); j++) {
					const size_t at = (size_t)i * t->cols + j;

					q.codes[at] = nearest(s > 0 ? t->at(at) / (double)s : 0, 8);
					q.full[at] = dequant_e4m3(q.codes[at]) * s;
				}
		}
	*t = q;
}

static inline void quantise_nvfp4(tensor *t)
{
	tensor q = *t;
	const float global = (float)(largest(*t, 0, t->rows, 0, t->cols) / (448 * 6));

	q.packed = {};
	q.packed.format = WF_NVFP4;
	q.packed.rows = t->rows;
	q.packed.cols = t->cols;
	q.packed.scale_format = WF_FP8;
	q.packed.span_rows = 1;
	q.packed.span_cols = 16;
	q.packed.global = global;
	q.wide = true;
	q.full.resize((size_t)t->rows * t->cols);
	q.codes.assign(q.full.size() / 2, 0);
	q.scale.resize(q.full.size() / 16);
	for (size_t block = 0; block < q.scale.size(); block++) {
		double most = 0, s;

		for (size_t i = block * 16; i < block * 16 + 16; i++)
			most = std::max(most, fabs(t->at(i)));
		q.scale[block] = nearest(most / 6 / (double)global, 8);
		s = (double)dequant_e4m3(q.scale[block]) * (double)global;
		for (size_t i = block * 16; i < block * 16 + 16; i++) {
			const uint8_t code = nearest(s > 0 ? t->at(i) / s : 0, 4);

			q.codes[i / 2] = (uint8_t)(q.codes[i / 2] | code << i % 2 * 4);
			q.full[i] = (float)((double)dequant_e2m1(code) * s);
		}
	}
	*t = q;
}

/* The formats of published checkpoints (kernels/dummy.h); in the last recipe scales of tensors and
 * of channels. */
static inline void model_quantise(struct model *m, enum dummy_recipe recipe)
{
	struct dummy d = { m->shape, recipe, 0 };
	const struct weight_source formats = dummy_source(&d);

	for (auto &w : m->weights) {
		struct weight_ref r = {};
		const int slot = std::get<0>(w.first);

		formats.find(formats.ctx, (enum weight_slot)slot, std::get<1>(w.first), std::get<2>(w.first), &r);
		if (r.format == WF_FP8)
			quantise_fp8(&w.second, slot % 2 || recipe == DUMMY_FP8 ? r.span_rows : w.second.rows, r.span_cols);
		else if (r.format == WF_NVFP4)
			quantise_nvfp4(&w.second);
	}
}

static inline void model_layer(struct model *m, uint32_t l)
{
	const struct model_shape *s = &m->shape;
	const uint32_t h = s->hidden, v = s->gdn_v_heads * 128, k = s->gdn_k_heads * 128;
	const float in = sqrtf(3.0f / (float)h);

	m->put(W_INPUT_NORM, l, 0, 1, h, 0.3f);
	m->put(W_POST_NORM, l, 0, 1, h, 0.3f);
	if (s->mixer[l] == MIXER_GDN) {
		m->put(W_GDN_QKV, l, 0, 2 * k + v, h, in);
		m->put(W_GDN_Z, l, 0, v, h, in);
		m->put(W_GDN_A, l, 0, s->gdn_v_heads, h, in);
		m->put(W_GDN_B, l, 0, s->gdn_v_heads, h, in);
		m->put(W_GDN_CONV, l, 0, 2 * k + v, 4, 0.5f);
		m->put(W_GDN_A_LOG, l, 0, 1, s->gdn_v_heads, 1, 0, true);
		m->put(W_GDN_DT_BIAS, l, 0, 1, s->gdn_v_heads, 1, -2, false);
		m->put(W_GDN_NORM, l, 0, 1, 128, 0.3f, 1, true);
		m->put(W_GDN_OUT, l, 0, h, v, sqrtf(3.0f / (float)v));
	} else {
		m->put(W_Q, l, 0, s->n_q_heads * 512, h, in);
		m->put(W_K, l, 0, s->n_kv_heads * 256, h, in);
		m->put(W_V, l, 0, s->n_kv_heads * 256, h, in);
		m->put(W_O, l, 0, h, s->n_q_heads * 256, sqrtf(3.0f / (float)(s->n_q_heads * 256)));
		m->put(W_Q_NORM, l, 0, 1, 256, 0.3f);
		m->put(W_K_NORM, l, 0, 1, 256, 0.3f);
	}
	m->put(W_ROUTER, l, 0, s->n_experts, h, in);
	for (uint32_t e = 0; e < s->n_experts; e++) {
		m->put(W_EXPERT_GATE, l, e, s->expert_inter, h, in);
		m->put(W_EXPERT_UP, l, e, s->expert_inter, h, in);
		m->put(W_EXPERT_DOWN, l, e, h, s->expert_inter, in);
	}
	m->put(W_SHARED_GATE, l, 0, s->shared_inter, h, in);
	m->put(W_SHARED_UP, l, 0, s->shared_inter, h, in);
	m->put(W_SHARED_DOWN, l, 0, h, s->shared_inter, in);
	m->put(W_SHARED_SCORE, l, 0, 1, h, in);
}

/* Odd where it may be: 6 experts (a router of 7 rows), three of them chosen. */
static inline void model_fill(struct model *m, uint32_t)
{
	struct model_shape *s = &m->shape;

	*s = {};
	s->hidden = 384;
	s->n_layers = 4;
	s->mixer[3] = MIXER_ATTENTION;
	s->vocab_rows = 1280;
	s->n_token_ids = 1229;
	s->norm_eps = 1e-6f;
	s->max_positions = 32768;
	s->n_q_heads = 8;
	s->n_kv_heads = 1;
	s->head_dim = 256;
	s->rotary_dim = 64;
	s->rope_theta = 1e7;
	s->mrope_section[0] = s->mrope_section[1] = 11;
	s->mrope_section[2] = 10;
	s->yarn_factor = s->yarn_attention_factor = 1;
	s->gdn_k_heads = 2;
	s->gdn_v_heads = 4;
	s->gdn_head_dim = 128;
	s->gdn_conv_width = 4;
	s->n_experts = 6;
	s->n_experts_used = 3;
	s->expert_inter = s->shared_inter = 384;
	m->put(W_EMBED, 0, 0, s->vocab_rows, s->hidden, 1);
	m->put(W_HEAD, 0, 0, s->vocab_rows, s->hidden, 2 * sqrtf(3.0f / (float)s->hidden));
	m->put(W_FINAL_NORM, 0, 0, 1, s->hidden, 0.3f);
	for (uint32_t l = 0; l < s->n_layers; l++)
		model_layer(m, l);
}

/* ---- the computation -------------------------------------------------------------- */

static inline double r16(double x)
{
	return (double)to_bf16((float)x);
}

static inline double logistic(double x)
{
	return 1 / (1 + exp(-x));
}

static inline row multiply(const tensor &w, const row &x, bool round)
{
	row y(w.rows);

	for (uint32_t r = 0; r < w.rows; r++) {
		double sum = 0;

		for (uint32_t c = 0; c < w.cols; c++)
			sum += w.at((size_t)r * w.cols + c) * x[c];
		y[r] = round ? r16(sum) : sum;
	}
	return y;
}

static inline row norm(const double *x, size_t n, const tensor &w, double eps)
{
	row y(n);
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += x[i] * x[i];
	for (size_t i = 0; i < n; i++)
		y[i] = x[i] / sqrt(sum / (double)n + eps) * (1 + w.at(i));
	return y;
}

static inline row rounded(row x)
{
	for (double &v : x)
		v = r16(v);
	return x;
}

/* What a sequence keeps: per layer the convolution inputs, the states, keys and values. */
struct memory {
	std::vector<row> inputs, keys, values;
	std::vector<row> state;		/* [v_heads][key 128 * value 128] */
};

static inline row gdn(const struct model *m, uint32_t l, const row &h, struct memory *mem)
{
	const struct model_shape *s = &m->shape;
	const uint32_t K = s->gdn_k_heads * 128, V = s->gdn_v_heads * 128;
	const row z = multiply(m->get(W_GDN_Z, l), h, true), a = multiply(m->get(W_GDN_A, l), h, true);
	const row b = multiply(m->get(W_GDN_B, l), h, true);
	row c(2 * K + V), out(V);

	mem->inputs.push_back(multiply(m->get(W_GDN_QKV, l), h, true));
	mem->state.resize(s->gdn_v_heads, row(128 * 128));
	for (uint32_t ch = 0; ch < c.size(); ch++) {
		double sum = 0;

		for (size_t j = 0; j < 4; j++)
			if (mem->inputs.size() + j >= 4)
				sum += m->get(W_GDN_CONV, l).at(ch * 4 + j) * mem->inputs[mem->inputs.size() + j - 4][ch];
		c[ch] = r16(sum * logistic(sum));
	}
	for (uint32_t hd = 0; hd < s->gdn_v_heads; hd++) {
		const uint32_t kh = hd / (s->gdn_v_heads / s->gdn_k_heads);
		const double *q = &c[kh * 128], *k = &c[K + kh * 128], *v = &c[2 * K + hd * 128];
		const double beta = logistic(b[hd]);
		const double alpha = exp(-exp(m->get(W_GDN_A_LOG, l).at(hd)) *
					 log1p(exp(a[hd] + m->get(W_GDN_DT_BIAS, l).at(hd))));
		double qq = 1e-6, kk = 1e-6, squares = 0;
		row &S = mem->state[hd], o(128);

		for (int i = 0; i < 128; i++) {
			qq += q[i] * q[i];
			kk += k[i] * k[i];
		}
		for (int d = 0; d < 128; d++) {
			double seen = 0, delta;

			for (int i = 0; i < 128; i++)
				seen += alpha * S[(size_t)(i * 128 + d)] * k[i] / sqrt(kk);
			delta = beta * (v[d] - seen);
			for (int i = 0; i < 128; i++) {
				double &x = S[(size_t)(i * 128 + d)];

				x = alpha * x + k[i] / sqrt(kk) * delta;
				o[(size_t)d] += x * q[i] / sqrt(qq) / sqrt(128.0);
			}
			squares += o[(size_t)d] * o[(size_t)d];
		}
		for (uint32_t d = 0; d < 128; d++) {
			double x = o[d] / sqrt(squares / 128 + (double)s->norm_eps), g = z[hd * 128 + d];

			out[hd * 128 + d] = r16(r16(m->get(W_GDN_NORM, l).at(d)) * x * g * logistic(g));
		}
	}
	return multiply(m->get(W_GDN_OUT, l), out, false);
}

static inline void rotate(row *x, size_t pos, const struct model_shape *s)
{
	const uint32_t half = s->rotary_dim / 2;

	for (uint32_t j = 0; j < half; j++) {
		double f = (double)pos * pow(s->rope_theta, -2.0 * j / s->rotary_dim);
		double c = r16(cos(f)), n = r16(sin(f)), a = (*x)[j], b = (*x)[j + half];

		(*x)[j] = a * c - b * n;
		(*x)[j + half] = b * c + a * n;
	}
}

/* What is left of a head's key or value that is kept in `kv`. */
static inline void kept(enum kv_format kv, double *x)
{
	float wide[256], power;
	uint8_t codes[256];

	if (kv != KV_FP8)
		return;
	std::copy(x, x + 256, wide);
	power = e4m3_power(e4m3_head(wide, 256, codes));
	for (int i = 0; i < 256; i++)
		x[i] = (double)power * kv_code(codes[i]);
}

static inline row attention(const struct model *m, uint32_t l, const row &h, enum kv_format format, struct memory *mem)
{
	const struct model_shape *s = &m->shape;
	const row qg = multiply(m->get(W_Q, l), h, true), k = multiply(m->get(W_K, l), h, true);
	const size_t pos = mem->keys.size();
	row key, value = multiply(m->get(W_V, l), h, true), out(s->n_q_heads * 256);

	for (uint32_t kv = 0; kv < s->n_kv_heads; kv++) {
		row one = norm(&k[kv * 256], 256, m->get(W_K_NORM, l), (double)s->norm_eps);

		rotate(&one, pos, s);
		one = rounded(one);
		kept(format, one.data());
		kept(format, &value[kv * 256]);
		key.insert(key.end(), one.begin(), one.end());
	}
	mem->keys.push_back(key);
	mem->values.push_back(value);
	for (uint32_t hd = 0; hd < s->n_q_heads; hd++) {
		const uint32_t kv = hd / (s->n_q_heads / s->n_kv_heads);
		row q = norm(&qg[hd * 512], 256, m->get(W_Q_NORM, l), (double)s->norm_eps), p(pos + 1), o(256);
		double top = -INFINITY, sum = 0;

		rotate(&q, pos, s);
		q = rounded(q);
		for (size_t t = 0; t <= pos; t++) {
			for (uint32_t i = 0; i < 256; i++)
				p[t] += q[i] * mem->keys[t][kv * 256 + i] / 16;
			top = std::max(top, p[t]);
		}
		for (size_t t = 0; t <= pos; t++) {
			double e = exp(p[t] - top);

			sum += e;
			for (uint32_t i = 0; i < 256; i++)
				o[i] += r16(e) * mem->values[t][kv * 256 + i];
		}
		for (uint32_t i = 0; i < 256; i++)
			out[hd * 256 + i] = r16(o[i] / sum * logistic(qg[hd * 512 + 256 + i]));
	}
	return multiply(m->get(W_O, l), out, false);
}

static inline row gated(const tensor &gate, const tensor &up, const tensor &down, const row &h)
{
	const row g = multiply(gate, h, false), u = multiply(up, h, false);
	row a(g.size());

	for (size_t i = 0; i < a.size(); i++)
		a[i] = r16(g[i] * logistic(g[i]) * u[i]);
	return multiply(down, a, false);
}

static inline row experts(const struct model *m, uint32_t l, const row &h)
{
	const struct model_shape *s = &m->shape;
	const row logits = multiply(m->get(W_ROUTER, l), h, false);
	std::vector<uint32_t> order;
	row y(s->hidden), one;
	double sum = 0, score;

	for (uint32_t e = 0; e < s->n_experts; e++)
		order.push_back(e);
	std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return logits[a] > logits[b]; });
	for (uint32_t i = 0; i < s->n_experts_used; i++)
		sum += exp(logits[order[i]]);
	for (uint32_t i = 0; i < s->n_experts_used; i++) {
		uint32_t e = order[i];

		one = gated(m->get(W_EXPERT_GATE, l, e), m->get(W_EXPERT_UP, l, e), m->get(W_EXPERT_DOWN, l, e), h);
		for (uint32_t j = 0; j < s->hidden; j++)
			y[j] += exp(logits[e]) / sum * one[j];
	}
	one = gated(m->get(W_SHARED_GATE, l), m->get(W_SHARED_UP, l), m->get(W_SHARED_DOWN, l), h);
	score = logistic(multiply(m->get(W_SHARED_SCORE, l), h, false)[0]);
	for (uint32_t j = 0; j < s->hidden; j++)
		y[j] += score * one[j];
	return y;
}

/* [tokens][vocab_rows], teacher-forced. */
static inline std::vector<double> reference_logits(const struct model *m, const std::vector<uint32_t> &tokens,
						   enum kv_format kv)
{
	const struct model_shape *s = &m->shape;
	const double eps = (double)s->norm_eps;
	std::vector<struct memory> mem(s->n_layers);
	std::vector<double> all;

	for (uint32_t token : tokens) {
		row x(s->hidden), y;

		for (uint32_t i = 0; i < s->hidden; i++)
			x[i] = m->get(W_EMBED).at((size_t)token * s->hidden + i);
		for (uint32_t l = 0; l < s->n_layers; l++) {
			row h = rounded(norm(x.data(), x.size(), m->get(W_INPUT_NORM, l), eps));

			y = s->mixer[l] == MIXER_GDN ? gdn(m, l, h, &mem[l]) : attention(m, l, h, kv, &mem[l]);
			for (uint32_t i = 0; i < s->hidden; i++)
				x[i] = r16(x[i] + y[i]);
			y = experts(m, l, rounded(norm(x.data(), x.size(), m->get(W_POST_NORM, l), eps)));
			for (uint32_t i = 0; i < s->hidden; i++)
				x[i] = r16(x[i] + y[i]);
		}
		y = multiply(m->get(W_HEAD), rounded(norm(x.data(), x.size(), m->get(W_FINAL_NORM), eps)), false);
		all.insert(all.end(), y.begin(), y.end());
	}
	return all;
}

#endif
