/* device.cu - see device.h: opening, memory, closing; a device that is lost; measurements. */
#include <cuda_profiler_api.h>
#include <errno.h>
#include <stdio.h>

#include <algorithm>

#include "kernels/cuda/device_int.h"
#include "kernels/cuda/route.h"

extern "C" {
#include "lib/err.h"
}

/* Raised with every rounding point or order of additions that changes (docs/numerics.md): an answer
 * never goes on in a worker that would have given other bits. */
static constexpr int NUMERICS_VERSION = 4;

/* A call that must not fail while the device is there. */
int device_code(struct cuda_device *d, cudaError_t e)
{
	if (e == cudaSuccess)
		return 0;
	if (!d->lost)
		d->lost_code = e;
	d->lost = true;
	return -ENODEV;
}

static int shape_check(const struct model_shape *m, const struct device_limits *l, struct err *e)
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

static void sizes(struct cuda_device *d)
{
	const struct model_shape *m = &d->m;
	const struct device_limits *l = &d->limits;
	const uint32_t blocks = (l->max_context + STEP_GRID - 1) / STEP_GRID;

	d->pass_rows = std::min(l->max_rows, (uint32_t)PASS_ROWS);
	d->table_entries = std::min(l->n_slots, d->pass_rows) * blocks;
	d->prefill_rows = std::min(l->max_rows, prefill_rows_liked());
	/* Decode passes are full but for the last; prefill passes lack less than a chunk, or have all the runs they may. */
	d->max_passes = (l->max_rows + d->pass_rows - 1) / d->pass_rows +
			l->max_rows / (d->prefill_rows - STEP_GRID + 1) + l->n_slots / PREFILL_RUNS + 2;
	for (uint32_t i = 0; i < m->n_layers; i++)
		d->index[i] = m->mixer[i] == MIXER_GDN ? d->n_gdn++ : d->n_attn++;
	d->value = m->gdn_v_heads * m->gdn_head_dim;
	d->channels = 2 * m->gdn_k_heads * m->gdn_head_dim + d->value;
	d->state_slot = (size_t)d->value * GDN_DIM * 4;
	d->window_side = (size_t)(GDN_TAPS - 1) * d->channels * 2;
	d->kv_half = (size_t)l->n_blocks * m->n_kv_heads * attn_head_bytes(l->kv);
	d->kv_layer = 2 * d->kv_half;
	d->side.resize(l->n_slots);
	d->n_kept.resize(l->n_slots);
	d->penalise.resize(l->n_slots);
}

/* What there is of a slot besides its recurrent state. */
static size_t slot_bytes(const struct cuda_device *d)
{
	return sizeof(struct sample_params) + SAMPLE_MAX_BIAS * sizeof(struct sample_bias) +
	       (size_t)d->m.vocab_rows * 4 + 4;
}

int cuda_device_open(const char *name, const struct model_shape *shape, const struct device_limits *limits,
		     struct cuda_device **ret, struct err *e)
{
	cudaDeviceProp prop;
	struct cuda_device *d;
	char tail, text[256];
	int ordinal, n = 0, rc;

	if (sscanf(name, "cuda:%d%c", &ordinal, &tail) != 1 || ordinal < 0)
		return err_set(e, -EINVAL, "%s: not a device of the form cuda:N", name);
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
	snprintf(text, sizeof(text), "cuda sm_%d%d numerics %d bf16%s", prop.major, prop.minor,
		 NUMERICS_VERSION, limits->kv == KV_FP8 ? " kv=fp8" : "");
	d->numeric_text = text;
	sizes(d);
	fp4_ask(d);
	workspace_layout(d, NULL, &d->ws);
	*ret = d;
	return 0;
}

void cuda_device_budget(const struct cuda_device *d, const struct weight_source *w, struct device_budget *ret)
{
	const uint64_t slots = d->limits.n_slots;

	ret->weights = weights_bytes(&d->m, w) + 2 * rotation_bytes(d);
	ret->kv = d->kv_layer * d->n_attn;
	ret->states = slots * (d->n_gdn * (d->state_slot + kept_slot(d) + 2 * d->window_side) + slot_bytes(d));
	ret->workspace = d->ws.bytes;
}

const char *cuda_device_numeric_text(const struct cuda_device *d)
{
	return d->numeric_text.c_str();
}

const char *cuda_device_load_note(const struct cuda_device *d)
{
	return d->load_note.c_str();
}

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
	    !take(&d->kept, slots * d->n_gdn * kept_slot(d)) ||
	    !take(&d->window, slots * d->n_gdn * 2 * d->window_side) || !take(&d->cos, rotation_bytes(d)) ||
	    !take(&d->sin, rotation_bytes(d)) || !take(&d->params, slots * sizeof(struct sample_params)) ||
	    !take(&d->bias, slots * SAMPLE_MAX_BIAS * sizeof(struct sample_bias)) ||
	    !take(&d->counts, slots * d->m.vocab_rows * 4) || !take(&d->last_sample, slots * 4) ||
	    !take(&slab, d->ws.bytes))
		return false;
	workspace_layout(d, slab, &d->ws);
	/* What mixers' ends clear for each other in turns begins with zeros (forward_experts.cu). */
	return cudaMemsetAsync(d->ws.end_room, 0, mixer_end_room_words(d) * 4, d->stream) == cudaSuccess;
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
			if (!take_host(&s.meta, sizeof(*s.meta)) || !take_host(&s.table, (d->table_entries + 3) / 4 * 16) ||
			    !take_host(&s.out, d->pass_rows * sizeof(*s.out)) ||
			    !take_host(&blob, d->ws.prefill.bytes))
				return false;
			else
				prefill_meta_layout(d, blob, &s.prefill);
	}
	for (struct prefill_meta &m : d->open.meta) {
		if (!take_host(&blob, d->ws.prefill.bytes))
			return false;
		prefill_meta_layout(d, blob, &m);
	}
	return true;
}

/* Nothing may be uninitialised where a kernel reads before a sequence began, or more than was written: the list of
 * experts is copied as it lies, tokens beside states come back, and initcheck looks at
 * what a graph copies (logits, for digests) when it is launched, before its kernels have run. */
static bool memory_clear(struct cuda_device *d)
{
	const size_t logits = d->limits.digests ? (size_t)d->pass_rows * d->m.vocab_rows * 4 : 0;
	const size_t list = expert_list_bytes(d->pass_rows, slots_of(d), d->m.n_experts + 1);

	return cudaMemset(d->kept, 0, d->limits.n_slots * d->n_gdn * kept_slot(d)) == cudaSuccess &&
	       cudaMemset(d->params, 0, d->limits.n_slots * sizeof(struct sample_params)) == cudaSuccess &&
	       cudaMemset(d->last_sample, 0, d->limits.n_slots * 4) == cudaSuccess &&
	       cudaMemset(d->ws.active, 0, 8) == cudaSuccess &&
	       cudaMemset(d->ws.list, 0, list) == cudaSuccess &&
	       cudaMemset(d->ws.logits, 0, logits) == cudaSuccess;
}

int cuda_device_load(struct cuda_device *d, const struct weight_source *w,
		     device_progress *progress, void *ctx, struct err *e)
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
	if (!memory_clear(d) || rotation_load(d))
		return err_set(e, -ENODEV, "cuda:%d: %s", d->ordinal, cudaGetErrorString(cudaGetLastError()));
	rc = weights_load(&d->m, w, progress, ctx, &d->w, e);
	rc = rc ? rc : fp4_load(d, e);
	if (!rc)
		expert_plan_load(d);
	d->loaded = !rc;
	return rc;
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
	for (struct prefill_meta &m : d->open.meta)
		cudaFreeHost(m.blob);
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
	for (void *p : { (void *)d->kv, (void *)d->state, (void *)d->kept, (void *)d->window, d->cos, d->sin,
			 (void *)d->params, (void *)d->bias, (void *)d->counts, (void *)d->last_sample, (void *)d->ws.slab })
		cudaFree(p);
	free_host(d);
	weights_free(&d->w);
	delete d;
	return NULL;
}

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

void cuda_device_profile(struct cuda_device *d, bool on)
{
	d->profile = on;
	/* A profiler that was told to wait for it counts just these steps; without one it is nothing. */
	(void)(on ? cudaProfilerStart() : cudaProfilerStop());
}

int cuda_device_stats(struct cuda_device *d, struct cuda_stats *ret)
{
	if (device_code(d, cudaStreamSynchronize(d->stream)) ||
	    device_code(d, cudaMemcpy(&d->stats.experts_active, d->ws.active, 8, cudaMemcpyDeviceToHost)) ||
	    device_code(d, cudaMemset(d->ws.active, 0, 8)))
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
