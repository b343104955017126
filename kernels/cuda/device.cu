/* device.cu - see device.h: opening, memory, slots, steps in flight. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "kernels/cuda/device_int.h"
#include "kernels/cuda/route.h"

extern "C" {
#include "lib/err.h"
}

namespace {

/* A call that must not fail while the device is there. */
int code_of(struct cuda_device *d, cudaError_t e)
{
	if (e == cudaSuccess)
		return 0;
	if (!d->lost)
		d->lost_code = e;
	d->lost = true;
	return -ENODEV;
}

int shape_check(const struct model_shape *m, const struct device_limits *l, struct err *e)
{
	uint32_t n_attention = 0;

	for (uint32_t i = 0; i < m->n_layers && i < MODEL_MAX_LAYERS; i++)
		n_attention += m->mixer[i] == MIXER_ATTENTION;
	if (l->numerics != NUMERICS_BF16)
		return err_set(e, -ENOTSUP, "cuda computes in BF16 numerics only");
	if (!m->n_layers || m->n_layers > MODEL_MAX_LAYERS || !m->hidden || m->hidden % 32 ||
	    m->hidden > RESIDUAL_MAX_WIDTH || !m->vocab_rows || m->vocab_rows > SAMPLE_MAX_VOCAB || !m->n_token_ids ||
	    m->n_token_ids > m->vocab_rows)
		return err_set(e, -ENOTSUP, "cuda: %u layers of width %u, vocabulary %u", m->n_layers, m->hidden,
			       m->vocab_rows);
	if (n_attention && (m->head_dim != ATTN_DIM || !m->n_kv_heads || m->n_q_heads % m->n_kv_heads ||
			    m->n_q_heads / m->n_kv_heads > ATTN_MAX_GROUP || !m->rotary_dim || m->rotary_dim % 2 ||
			    m->rotary_dim > ATTN_DIM))
		return err_set(e, -ENOTSUP, "cuda: attention of %u / %u heads of %u", m->n_q_heads, m->n_kv_heads,
			       m->head_dim);
	if (n_attention < m->n_layers && (m->gdn_head_dim != GDN_DIM || m->gdn_conv_width != GDN_TAPS ||
					  !m->gdn_k_heads || !m->gdn_v_heads || m->gdn_v_heads % m->gdn_k_heads))
		return err_set(e, -ENOTSUP, "cuda: Gated DeltaNet of %u / %u heads of %u", m->gdn_k_heads, m->gdn_v_heads,
			       m->gdn_head_dim);
	if (m->n_experts ? m->n_experts > MATMUL_MAX_EXPERTS || !m->n_experts_used || m->n_experts_used > ROUTE_MAX_TOP ||
				   m->n_experts_used > m->n_experts || !m->expert_inter || m->expert_inter % 32 ||
				   m->shared_inter % 32 :
			   !m->dense_inter || m->dense_inter % 32)
		return err_set(e, -ENOTSUP, "cuda: %u of %u experts of %u, dense %u", m->n_experts_used, m->n_experts,
			       m->expert_inter, m->dense_inter);
	if (!l->n_slots || !l->n_blocks || l->max_rows < STEP_GRID || !l->max_context)
		return err_set(e, -EINVAL, "cuda: limits of %u slots, %u blocks, %u rows, %u positions", l->n_slots,
			       l->n_blocks, l->max_rows, l->max_context);
	return 0;
}

void sizes(struct cuda_device *d)
{
	const struct model_shape *m = &d->m;
	const struct device_limits *l = &d->limits;
	const uint32_t blocks = (l->max_context + STEP_GRID - 1) / STEP_GRID;

	d->pass_rows = std::min(l->max_rows, (uint32_t)PASS_ROWS);
	d->table_entries = std::min(l->n_slots, d->pass_rows) * blocks;
	d->prefill_rows = std::min(l->max_rows, (uint32_t)PREFILL_ROWS);
	/* Decode passes are full but for the last; prefill passes lack less than a chunk, or have all the runs they may. */
	d->max_passes = (l->max_rows + d->pass_rows - 1) / d->pass_rows +
			l->max_rows / (d->prefill_rows - STEP_GRID + 1) + l->n_slots / PREFILL_RUNS + 2;
	for (uint32_t i = 0; i < m->n_layers; i++)
		d->index[i] = m->mixer[i] == MIXER_GDN ? d->n_gdn++ : d->n_attn++;
	d->value = m->gdn_v_heads * m->gdn_head_dim;
	d->channels = 2 * m->gdn_k_heads * m->gdn_head_dim + d->value;
	d->state_slot = (size_t)d->value * GDN_DIM * 4;
	d->window_side = (size_t)(GDN_TAPS - 1) * d->channels * 2;
	d->kv_half = (size_t)l->n_blocks * m->n_kv_heads * STEP_GRID * ATTN_DIM * 2;
	d->kv_layer = 2 * d->kv_half;
	d->side.resize(l->n_slots);
	d->penalise.resize(l->n_slots);
}

/* What there is of a slot besides its recurrent state. */
size_t slot_bytes(const struct cuda_device *d)
{
	return sizeof(struct sample_params) + SAMPLE_MAX_BIAS * sizeof(struct sample_bias) +
	       (size_t)d->m.vocab_rows * 4 + 4;
}

size_t rotation_bytes(const struct cuda_device *d)
{
	return (size_t)d->limits.max_context * (d->m.rotary_dim / 2) * 2;
}

} /* namespace */

/* ---- opening ------------------------------------------------------------------- */

int cuda_device_open(const char *name, const struct model_shape *shape, const struct device_limits *limits,
		     struct cuda_device **ret, struct err *e)
{
	cudaDeviceProp prop;
	struct cuda_device *d;
	char tail, text[256];
	int ordinal, n = 0, rc;

	if (sscanf(name, "cuda:%d%c", &ordinal, &tail) != 1 || ordinal < 0)
		return err_set(e, -EINVAL, "%s: not a device of the form cuda:N", name);
	if (limits->kv != KV_BF16)
		return err_set(e, -ENOTSUP, "%s: keys and values in %s: this back end keeps them in bf16 only", name,
			       kv_format_name(limits->kv));
	if (cudaGetDeviceCount(&n) != cudaSuccess || ordinal >= n || cudaSetDevice(ordinal) != cudaSuccess ||
	    cudaGetDeviceProperties(&prop, ordinal) != cudaSuccess)
		return err_set(e, -ENODEV, "%s: %d CUDA devices here", name, n);
	if (prop.major * 10 + prop.minor != 90 && prop.major != 12)
		return err_set(e, -ENOTSUP, "%s: compute capability %d.%d has no code in this build", name, prop.major,
			       prop.minor);
	rc = shape_check(shape, limits, e);
	if (rc)
		return rc;
	d = new cuda_device();
	d->ordinal = ordinal;
	d->m = *shape;
	d->limits = *limits;
	snprintf(text, sizeof(text), "cuda sm_%d%d numerics 1 bf16", prop.major, prop.minor);
	d->numeric_text = text;
	sizes(d);
	workspace_layout(d, NULL, &d->ws);
	*ret = d;
	return 0;
}

void cuda_device_budget(const struct cuda_device *d, const struct weight_source *w, struct device_budget *ret)
{
	const uint64_t slots = d->limits.n_slots;

	ret->weights = weights_bytes(&d->m, w) + 2 * rotation_bytes(d);
	ret->kv = d->kv_layer * d->n_attn;
	ret->states = slots * (d->n_gdn * (d->state_slot + 2 * d->window_side) + slot_bytes(d));
	ret->workspace = d->ws.bytes;
}

const char *cuda_device_numeric_text(const struct cuda_device *d)
{
	return d->numeric_text.c_str();
}

/* ---- rotation tables ----------------------------------------------------------- */

/* Frequencies of pairs, with YaRN's blend (Peng, Quesnelle, Fan, Shippole, "YaRN", 2023, section 3.2;
 * beta 32 and 1). */
static std::vector<double> rotary_frequencies(const struct model_shape *m)
{
	const double two_pi = 6.283185307179586, dim = m->rotary_dim, original = m->yarn_original;
	std::vector<double> f(m->rotary_dim / 2);
	double low = 0, high = 0;

	if (m->yarn_factor > 1) {
		low = std::max(0.0, floor(dim * log(original / (32 * two_pi)) / (2 * log(m->rope_theta))));
		high = std::min(dim - 1, ceil(dim * log(original / two_pi) / (2 * log(m->rope_theta))));
		high = high == low ? low + 0.001 : high;
	}
	for (size_t i = 0; i < f.size(); i++) {
		double plain = pow(m->rope_theta, -2.0 * (double)i / dim), ramp;

		ramp = std::min(1.0, std::max(0.0, ((double)i - low) / (high - low)));
		f[i] = m->yarn_factor > 1 ? plain / m->yarn_factor * ramp + plain * (1 - ramp) : plain;
	}
	return f;
}

static uint16_t round_bf16(double x)
{
	float f = (float)x;
	uint32_t bits;

	memcpy(&bits, &f, 4);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static int rotation_load(struct cuda_device *d)
{
	const std::vector<double> f = rotary_frequencies(&d->m);
	const double factor = d->m.yarn_factor > 1 ? d->m.yarn_attention_factor : 1;
	std::vector<uint16_t> c(rotation_bytes(d) / 2), s(c.size());

	for (uint32_t pos = 0; pos < d->limits.max_context; pos++)
		for (size_t i = 0; i < f.size(); i++) {
			c[pos * f.size() + i] = round_bf16(cos(pos * f[i]) * factor);
			s[pos * f.size() + i] = round_bf16(sin(pos * f[i]) * factor);
		}
	if (c.empty())
		return 0;
	return code_of(d, cudaMemcpy(d->cos, c.data(), c.size() * 2, cudaMemcpyHostToDevice)) ?:
	       code_of(d, cudaMemcpy(d->sin, s.data(), s.size() * 2, cudaMemcpyHostToDevice));
}

/* ---- memory -------------------------------------------------------------------- */

static bool take(void *ret, size_t bytes)
{
	return cudaMalloc((void **)ret, std::max(bytes, (size_t)256)) == cudaSuccess;
}

static bool take_host(void *ret, size_t bytes)
{
	return cudaMallocHost((void **)ret, std::max(bytes, (size_t)256)) == cudaSuccess;
}

static bool memory_device(struct cuda_device *d)
{
	const size_t slots = d->limits.n_slots;
	char *slab;

	if (!take(&d->kv, d->kv_layer * d->n_attn) || !take(&d->state, slots * d->n_gdn * d->state_slot) ||
	    !take(&d->window, slots * d->n_gdn * 2 * d->window_side) || !take(&d->cos, rotation_bytes(d)) ||
	    !take(&d->sin, rotation_bytes(d)) || !take(&d->params, slots * sizeof(struct sample_params)) ||
	    !take(&d->bias, slots * SAMPLE_MAX_BIAS * sizeof(struct sample_bias)) ||
	    !take(&d->counts, slots * d->m.vocab_rows * 4) || !take(&d->last_sample, slots * 4) ||
	    !take(&slab, d->ws.bytes))
		return false;
	workspace_layout(d, slab, &d->ws);
	return true;
}

static bool memory_host(struct cuda_device *d)
{
	char *blob;

	for (int i = 0; i < 2; i++)
		if (!take_host(&d->begin_ids[i], (size_t)d->limits.max_context * 4) ||
		    !take_host(&d->begin_bias[i], SAMPLE_MAX_BIAS * sizeof(struct sample_bias)) ||
		    cudaEventCreateWithFlags(&d->begin_done[i], cudaEventDisableTiming) != cudaSuccess)
			return false;
	for (struct flight &f : d->flights) {
		f.staging.resize(d->max_passes);
		if (cudaEventCreateWithFlags(&f.done, cudaEventDisableTiming | cudaEventBlockingSync) != cudaSuccess)
			return false;
		for (struct staging &s : f.staging)
			if (!take_host(&s.meta, sizeof(*s.meta)) || !take_host(&s.table, d->table_entries * 4) ||
			    !take_host(&s.out, d->pass_rows * sizeof(*s.out)) ||
			    !take_host(&blob, d->ws.prefill.bytes))
				return false;
			else
				prefill_meta_layout(d, blob, &s.prefill);
	}
	return true;
}

static int load(struct cuda_device *d, const struct weight_source *w, uint64_t seed, device_progress *progress,
		void *ctx, struct err *e)
{
	int rc;

	if (d->loaded)
		return err_set(e, -EINVAL, "cuda: loaded already");
	if (cudaSetDevice(d->ordinal) != cudaSuccess ||
	    cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking) != cudaSuccess)
		return err_set(e, -ENODEV, "cuda:%d: %s", d->ordinal, cudaGetErrorString(cudaGetLastError()));
	if (!memory_device(d) || !memory_host(d)) {
		cudaGetLastError();
		return err_set(e, -ENOMEM, "cuda:%d: no memory for KV, states and workspace", d->ordinal);
	}
	/* Nothing may be uninitialised where a kernel reads before a sequence began. */
	if (cudaMemset(d->params, 0, d->limits.n_slots * sizeof(struct sample_params)) != cudaSuccess ||
	    cudaMemset(d->last_sample, 0, d->limits.n_slots * 4) != cudaSuccess ||
	    cudaMemset(d->ws.active, 0, 8) != cudaSuccess ||
	    cudaMemset(d->ws.out, 0, d->pass_rows * sizeof(*d->ws.out)) != cudaSuccess || rotation_load(d))
		return err_set(e, -ENODEV, "cuda:%d: %s", d->ordinal, cudaGetErrorString(cudaGetLastError()));
	rc = weights_load(&d->m, w, seed, progress, ctx, &d->w, e);
	d->loaded = !rc;
	return rc;
}

int cuda_device_load(struct cuda_device *d, const struct weight_source *w, device_progress *progress, void *ctx,
		     struct err *e)
{
	return load(d, w, 0, progress, ctx, e);
}

int cuda_device_load_dummy(struct cuda_device *d, enum dummy_recipe recipe, uint64_t seed, struct err *e)
{
	struct dummy dummy = { d->m, recipe };
	const struct weight_source w = dummy_source(&dummy);

	return load(d, &w, seed, NULL, NULL, e);
}

void cuda_device_weight_reads(const struct cuda_device *d, uint64_t *ret_step, uint64_t *ret_expert)
{
	*ret_step = d->w.step_bytes;
	*ret_expert = d->w.expert_bytes;
}

static void free_host(struct cuda_device *d)
{
	for (int i = 0; i < 2; i++) {
		cudaFreeHost(d->begin_ids[i]);
		cudaFreeHost(d->begin_bias[i]);
		if (d->begin_done[i])
			cudaEventDestroy(d->begin_done[i]);
	}
	for (struct flight &f : d->flights) {
		if (f.done)
			cudaEventDestroy(f.done);
		for (struct staging &s : f.staging) {
			cudaFreeHost(s.meta);
			cudaFreeHost(s.prefill.blob);
			cudaFreeHost(s.table);
			cudaFreeHost(s.out);
		}
	}
}

struct cuda_device *cuda_device_close(struct cuda_device *d)
{
	if (!d)
		return NULL;
	if (d->stream) {
		cudaSetDevice(d->ordinal);
		cudaStreamSynchronize(d->stream);
		for (auto &g : d->graphs)
			cudaGraphExecDestroy(g.second);
		for (struct mark &m : d->marks)
			cudaEventDestroy(m.at);
		cudaStreamDestroy(d->stream);
	}
	for (void *p : { (void *)d->kv, (void *)d->state, (void *)d->window, d->cos, d->sin, (void *)d->params,
			 (void *)d->bias, (void *)d->counts, (void *)d->last_sample, (void *)d->ws.slab })
		cudaFree(p);
	free_host(d);
	weights_free(&d->w);
	delete d;
	return NULL;
}

/* ---- slots --------------------------------------------------------------------- */

static bool in_range(float x, float low, float high)
{
	return x >= low && x <= high;
}

static bool sampling_ok(const struct cuda_device *d, const struct sampling *s)
{
	if (!in_range(s->temperature, 0, 1e6f) || !in_range(s->top_p, 0, 1) || s->top_p <= 0 ||
	    !in_range(s->min_p, 0, 1) || !in_range(s->repetition, 1e-6f, 1e6f) || !in_range(s->presence, -1e6f, 1e6f) ||
	    !in_range(s->frequency, -1e6f, 1e6f) || s->n_top > STEP_MAX_TOP || s->n_bias > STEP_MAX_BIAS ||
	    s->n_never > SAMPLE_MAX_BIAS - STEP_MAX_BIAS)
		return false;
	for (uint32_t i = 0; i < s->n_bias; i++)
		if (s->bias[i].id >= d->m.vocab_rows || s->bias[i].bias != s->bias[i].bias)
			return false;
	for (uint32_t i = 0; i < s->n_never; i++)
		if (s->never[i] >= d->m.vocab_rows)
			return false;
	return true;
}

/* Ids once each, sums of several entries in the order given. */
static uint32_t bias_merge(const struct sampling *s, struct sample_bias *ret)
{
	std::vector<struct sample_bias> all;
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n_bias; i++)
		all.push_back({ s->bias[i].id, s->bias[i].bias });
	for (uint32_t i = 0; i < s->n_never; i++)
		all.push_back({ s->never[i], -INFINITY });
	std::stable_sort(all.begin(), all.end(),
			 [](const struct sample_bias &a, const struct sample_bias &b) { return a.id < b.id; });
	for (const struct sample_bias &b : all) {
		if (n && ret[n - 1].id == b.id)
			ret[n - 1].bias = b.bias == -INFINITY ? b.bias : ret[n - 1].bias + b.bias;
		else
			ret[n++] = b;
	}
	return n;
}

static int state_clear(struct cuda_device *d, uint32_t slot)
{
	d->side[slot] = 0;
	for (uint32_t l = 0; l < d->n_gdn; l++)
		if (cudaMemsetAsync(state_at(d, l, slot), 0, d->state_slot, d->stream) != cudaSuccess ||
		    cudaMemsetAsync(window_at(d, l, slot, 0), 0, 2 * d->window_side, d->stream) != cudaSuccess)
			return -ENODEV;
	return 0;
}

/* The prompt's marks and the biases, from pinned memory: copied (or read) in the stream's own time. */
static int slot_tables(struct cuda_device *d, uint32_t slot, const struct sampling *s, const uint32_t *prompt,
		       uint32_t n_prompt, struct sample_params *p)
{
	uint32_t *counts = d->counts + (size_t)slot * d->m.vocab_rows;
	const unsigned i = d->begin_next;
	int rc = 0;

	if (cudaEventSynchronize(d->begin_done[i]) != cudaSuccess)
		return -ENODEV;
	d->begin_next = 1 - i;
	p->n_bias = bias_merge(s, d->begin_bias[i]);
	if (p->n_bias && cudaMemcpyAsync(d->bias + (size_t)slot * SAMPLE_MAX_BIAS, d->begin_bias[i],
					 p->n_bias * sizeof(struct sample_bias), cudaMemcpyHostToDevice,
					 d->stream) != cudaSuccess)
		return -ENODEV;
	if (p->penalise) {
		const struct count_args c = { counts, d->begin_ids[i], n_prompt, d->m.vocab_rows, 1 };

		if (n_prompt)
			memcpy(d->begin_ids[i], prompt, n_prompt * 4);
		if (cudaMemsetAsync(counts, 0, (size_t)d->m.vocab_rows * 4, d->stream) != cudaSuccess)
			return -ENODEV;
		rc = sample_count(&c, d->stream);
	}
	return rc ? rc : cudaEventRecord(d->begin_done[i], d->stream) == cudaSuccess ? 0 : -ENODEV;
}

int cuda_slot_begin(struct cuda_device *d, uint32_t slot, const struct sampling *s, const uint32_t *prompt,
		    uint32_t n_prompt)
{
	struct sample_params p = {};
	int rc;

	if (!d->loaded || slot >= d->limits.n_slots || !sampling_ok(d, s) || n_prompt > d->limits.max_context ||
	    (n_prompt && !prompt))
		return -EINVAL;
	if (d->lost)
		return -ENODEV;
	p.seed = s->seed;
	p.temperature = s->temperature;
	p.top_p = s->top_p;
	p.min_p = s->min_p;
	p.repetition = s->repetition;
	p.presence = s->presence;
	p.frequency = s->frequency;
	p.top_k = s->top_k;
	p.choice = s->choice;
	p.n_top = s->n_top;
	p.logprob = s->logprob;
	p.penalise = s->repetition < 1 || s->repetition > 1 || s->presence < 0 || s->presence > 0 || s->frequency < 0 ||
		     s->frequency > 0;
	d->penalise[slot] = (uint8_t)p.penalise;
	rc = state_clear(d, slot);
	rc = rc ? rc : slot_tables(d, slot, s, prompt, n_prompt, &p);
	rc = rc ? rc : sample_set(d->params + slot, &p, d->stream);
	d->lost |= rc == -ENODEV;
	return rc;
}

/* ---- steps --------------------------------------------------------------------- */

/* What kernels read about a pass, on its way; then the pass. */
static int pass_enqueue(struct cuda_device *d, const struct pass *pass, const struct staging *s)
{
	if (pass->prefill) {
		if (cudaMemcpyAsync(d->ws.prefill.blob, s->prefill.blob, s->prefill.bytes, cudaMemcpyHostToDevice,
				    d->stream) != cudaSuccess)
			return -ENODEV;
		return prefill_forward(d, pass, s);
	}
	if (cudaMemcpyAsync(d->ws.meta, s->meta, sizeof(*s->meta), cudaMemcpyHostToDevice, d->stream) != cudaSuccess ||
	    cudaMemcpyAsync(d->ws.table, s->table, pass->n_table * 4, cudaMemcpyHostToDevice, d->stream) != cudaSuccess)
		return -ENODEV;
	return pass_forward(d, pass);
}

static int pass_submit(struct cuda_device *d, const struct plan *p, struct pass *pass, const struct staging *s,
		       struct flight *f)
{
	int rc = pass_describe(d, p, pass, s);

	rc = rc ? rc : pass_enqueue(d, pass, s);
	if (rc)
		return rc;
	for (const struct piece &piece : pass->pieces)
		d->side[piece.slot] ^= 1;
	if (d->limits.digests)
		rc = pass_digest(d, pass, f->results.data());
	if (!rc && pass->n_sample &&
	    cudaMemcpyAsync(s->out, d->ws.out, pass->n_sample * sizeof(*s->out), cudaMemcpyDeviceToHost, d->stream) !=
		    cudaSuccess)
		rc = -ENODEV;
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
	if (code_of(d, cudaEventSynchronize(f->done)))
		return -ENODEV;
	for (size_t i = 0; i < f->passes.size(); i++)
		for (uint32_t j = 0; j < f->passes[i].n_sample; j++)
			result_take(&f->staging[i].out[j], &f->results[f->passes[i].sample_run[j]]);
	std::copy(f->results.begin(), f->results.end(), ret);
	d->oldest = (d->oldest + 1) % STEP_AHEAD;
	d->n_flights--;
	return (int)f->results.size();
}

/* ---- state and blocks, out and in ------------------------------------------------ */

size_t cuda_state_bytes(const struct cuda_device *d)
{
	return d->n_gdn * (d->state_slot + d->window_side);
}

size_t cuda_block_bytes(const struct cuda_device *d)
{
	return d->n_attn * 2 * (d->kv_half / d->limits.n_blocks);
}

/* On the stream and waited for: a plain cudaMemcpy() in may return before it has arrived. */
static int copy(struct cuda_device *d, void *device, void *host, size_t bytes, bool save)
{
	return code_of(d, cudaMemcpyAsync(save ? host : device, save ? device : host, bytes,
					  save ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice, d->stream)) ?:
	       code_of(d, cudaStreamSynchronize(d->stream));
}

static int state_copy(struct cuda_device *d, uint32_t slot, char *host, bool save)
{
	if (!d->loaded || slot >= d->limits.n_slots)
		return -EINVAL;
	if (d->lost)
		return -ENODEV;
	for (uint32_t l = 0; l < d->n_gdn; l++) {
		if (copy(d, state_at(d, l, slot), host, d->state_slot, save) ||
		    copy(d, window_at(d, l, slot, d->side[slot]), host + d->state_slot, d->window_side, save))
			return -ENODEV;
		host += d->state_slot + d->window_side;
	}
	return 0;
}

static int block_copy(struct cuda_device *d, kv_block b, char *host, bool save)
{
	const size_t each = d->kv_half / d->limits.n_blocks;

	if (!d->loaded || b >= d->limits.n_blocks)
		return -EINVAL;
	if (d->lost)
		return -ENODEV;
	for (uint32_t l = 0; l < d->n_attn; l++)
		for (int half = 0; half < 2; half++, host += each)
			if (copy(d, kv_at(d, l, half) + each * b, host, each, save))
				return -ENODEV;
	return 0;
}

int cuda_state_save(struct cuda_device *d, uint32_t slot, void *ret)
{
	return state_copy(d, slot, (char *)ret, true);
}

int cuda_state_restore(struct cuda_device *d, uint32_t slot, const void *from)
{
	return state_copy(d, slot, (char *)from, false);
}

int cuda_block_save(struct cuda_device *d, kv_block b, void *ret)
{
	return block_copy(d, b, (char *)ret, true);
}

int cuda_block_restore(struct cuda_device *d, kv_block b, const void *from)
{
	return block_copy(d, b, (char *)from, false);
}

/* ---- a device that is lost --------------------------------------------------------- */

/* An error that breaks the context sticks: every later call answers it too, so where the first word was not
 * kept the stream is asked again. */
const char *cuda_device_lost_text(struct cuda_device *d)
{
	cudaError_t e = d->lost_code;

	if (!d->lost)
		return "";
	if (e == cudaSuccess)
		e = cudaPeekAtLastError();
	if (e == cudaSuccess)
		e = cudaStreamQuery(d->stream);
	if (e == cudaSuccess || e == cudaErrorNotReady)
		return "";
	d->lost_code = e;
	snprintf(d->lost_text, sizeof(d->lost_text), "cuda:%d: %s (%s, %d)", d->ordinal, cudaGetErrorString(e),
		 cudaGetErrorName(e), (int)e);
	return d->lost_text;
}

/* ---- measurements ---------------------------------------------------------------- */

void cuda_device_profile(struct cuda_device *d, bool on)
{
	d->profile = on;
}

int cuda_device_stats(struct cuda_device *d, struct cuda_stats *ret)
{
	if (code_of(d, cudaStreamSynchronize(d->stream)) ||
	    code_of(d, cudaMemcpy(&d->stats.experts_active, d->ws.active, 8, cudaMemcpyDeviceToHost)) ||
	    code_of(d, cudaMemset(d->ws.active, 0, 8)))
		return -ENODEV;
	for (size_t i = 0; i < d->marks.size(); i++) {
		float ms = 0;

		/* A pass begins with its embedding: what lies before is the host's. */
		if (i && d->marks[i].c != CLASS_EMBED)
			cudaEventElapsedTime(&ms, d->marks[i - 1].at, d->marks[i].at);
		d->stats.class_ms[d->marks[i].c] += (double)ms;
	}
	for (struct mark &m : d->marks)
		cudaEventDestroy(m.at);
	d->marks.clear();
	*ret = d->stats;
	d->stats = {};
	return 0;
}
