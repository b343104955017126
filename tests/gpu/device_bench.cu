/* device_bench.cu - tokens a second of the CUDA back end on the Qwen3.6-35B-A3B shape with made weights.
 *
 *	device_bench [--weights bf16|fp8|nvfp4|nvfp4-fp8] [--context 1024] [--steps 512]
 *
 * First prompts of 2k, 8k and 32k tokens, each alone, best of three; then decode.
 * Every sequence has its own random prompt; T 0.7, top_k 20, top_p 0.95; submit and collect with a step ahead,
 * wall clock.  Bytes a step are counted from the shape and the experts that were in use; the read roof is
 * measured in the same run.  Then 24 steps again with events between the kernels. */
#include <chrono>

#include "kernels/cuda/device.h"
#include "kernels/dummy.h"
#include "kernels/noise.h"
#include "tests/gpu/gpu_test.h"

static const uint32_t SLOTS = 64;

static struct model_shape shape_35b(void)
{
	struct model_shape s = {};

	s.hidden = 2048;
	s.n_layers = 40;
	for (uint32_t l = 3; l < s.n_layers; l += 4)
		s.mixer[l] = MIXER_ATTENTION;
	s.vocab_rows = 248320;
	s.n_token_ids = 248077;
	s.norm_eps = 1e-6f;
	s.max_positions = 262144;
	s.n_q_heads = 16;
	s.n_kv_heads = 2;
	s.head_dim = 256;
	s.rotary_dim = 64;
	s.rope_theta = 1e7;
	s.mrope_section[0] = s.mrope_section[1] = 11;
	s.mrope_section[2] = 10;
	s.yarn_factor = s.yarn_attention_factor = 1;
	s.gdn_k_heads = 16;
	s.gdn_v_heads = 32;
	s.gdn_head_dim = 128;
	s.gdn_conv_width = 4;
	s.n_experts = 256;
	s.n_experts_used = 8;
	s.expert_inter = s.shared_inter = 512;
	return s;
}

__global__ void read_kernel(const uint4 *p, size_t n, uint32_t *out)
{
	const size_t step = (size_t)gridDim.x * blockDim.x;
	uint32_t x = 0;

#pragma unroll 8
	for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
		uint4 v = p[i];

		x ^= v.x ^ v.y ^ v.z ^ v.w;
	}
	if (x == 0x12345678u)
		*out = x;
}

/* TB/s of reading 8 GiB. */
static double read_roof(void)
{
	const size_t bytes = (size_t)8 << 30;
	cudaEvent_t t0, t1;
	double best = 0;
	char *p;
	float ms;

	CUDA(cudaMalloc(&p, bytes));
	CUDA(cudaMemset(p, 1, bytes));
	CUDA(cudaEventCreate(&t0));
	CUDA(cudaEventCreate(&t1));
	for (int i = 0; i < 5; i++) {
		CUDA(cudaEventRecord(t0));
		read_kernel<<<132 * 16, 512>>>((const uint4 *)p, bytes / 16, (uint32_t *)p);
		CUDA(cudaEventRecord(t1));
		CUDA(cudaEventSynchronize(t1));
		CUDA(cudaEventElapsedTime(&ms, t0, t1));
		best = std::max(best, (double)bytes / 1e9 / (double)ms);
	}
	CUDA(cudaFree(p));
	return best;
}

struct sequences {
	uint32_t pages;
	std::vector<kv_block> blocks;	/* [SLOTS][pages] */
	std::vector<uint32_t> tokens;	/* [SLOTS][context] */
};

static double now(void)
{
	return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static void check(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "%s: %d: %s\n", what, rc, cudaGetErrorString(cudaGetLastError()));
	exit(1);
}

/* Seconds to prefill all slots, one after the other. */
static double prefill(struct cuda_device *d, struct sequences *s, uint32_t context)
{
	struct run_result result;
	const double begin = now();

	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		struct sampling p = {};
		struct plan_run r = {};
		const struct plan plan = { &r, 1 };

		p.temperature = 0.7f;
		p.top_p = 0.95f;
		p.top_k = 20;
		p.repetition = 1;
		p.seed = slot;
		check(cuda_slot_begin(d, slot, &p, NULL, 0), "slot_begin");
		r.slot = slot;
		r.n = context;
		r.tokens = &s->tokens[(size_t)slot * context];
		r.blocks = &s->blocks[(size_t)slot * s->pages];
		r.n_blocks = s->pages;
		r.sample = true;
		check(cuda_device_submit(d, &plan), "submit");
		check(cuda_device_collect(d, &result, 1), "collect");
	}
	return now() - begin;
}

/* One prompt of n tokens, 8,192 a step, on slot 0 and whatever blocks; milliseconds. */
static double prompt(struct cuda_device *d, struct sequences *s, uint32_t n)
{
	struct run_result result;
	struct cuda_stats before;
	struct sampling p = {};
	double begin;

	p.temperature = 0.7f;
	p.top_p = 0.95f;
	p.top_k = 20;
	p.repetition = 1;
	check(cuda_slot_begin(d, 0, &p, NULL, 0), "slot_begin");
	check(cuda_device_stats(d, &before), "stats");
	begin = now();
	for (uint32_t pos = 0; pos < n; pos += 8192) {
		struct plan_run r = {};
		const struct plan plan = { &r, 1 };

		r.pos = pos;
		r.n = std::min(n - pos, 8192u);
		r.tokens = &s->tokens[pos];
		r.blocks = s->blocks.data();
		r.n_blocks = (n + 63) / 64;
		r.sample = pos + r.n == n;
		check(cuda_device_submit(d, &plan), "submit");
		if (pos)
			check(cuda_device_collect(d, &result, 1), "collect");
	}
	check(cuda_device_collect(d, &result, 1), "collect");
	return (now() - begin) * 1e3;
}

static void prompts(struct cuda_device *d, struct sequences *s)
{
	printf("| prompt | tok/s | ms |\n|--:|--:|--:|\n");
	for (uint32_t n : { 256u, 2048u, 8192u, 32768u }) {
		struct cuda_stats profiled;
		double best = 1e9;

		for (int i = 0; i < 4; i++)
			best = std::min(best, prompt(d, s, n));
		printf("| %u | %.0f | %.2f |\n", n, n / best * 1e3, best);
		cuda_device_profile(d, true);
		prompt(d, s, n);
		cuda_device_profile(d, false);
		check(cuda_device_stats(d, &profiled), "stats");
		printf("classes, ms:");
		for (int c = 0; c < CLASS_N; c++)
			printf(" %s %.2f;", cuda_class_name[c], profiled.class_ms[c]);
		printf("\n");
		fflush(stdout);
	}
}

static void submit(struct cuda_device *d, struct sequences *s, uint32_t batch, uint32_t pos)
{
	std::vector<struct plan_run> runs(batch);
	const struct plan plan = { runs.data(), batch };

	for (uint32_t i = 0; i < batch; i++) {
		runs[i].slot = i;
		runs[i].kind = ROW_DECODE;
		runs[i].input = IN_LAST_SAMPLE;
		runs[i].pos = pos;
		runs[i].n = 1;
		runs[i].blocks = &s->blocks[(size_t)i * s->pages];
		runs[i].n_blocks = s->pages;
		runs[i].sample = true;
	}
	check(cuda_device_submit(d, &plan), "submit");
}

struct timing {
	double seconds, in_submit;
	uint32_t steps;
};

static struct timing decode(struct cuda_device *d, struct sequences *s, uint32_t batch, uint32_t pos, uint32_t steps)
{
	std::vector<struct run_result> r(batch);
	struct timing t = { 0, 0, steps };
	const double begin = now();

	submit(d, s, batch, pos);
	for (uint32_t i = 0; i < steps; i++) {
		double at = now();

		if (i + 1 < steps)
			submit(d, s, batch, pos + i + 1);
		t.in_submit += now() - at;
		check(cuda_device_collect(d, r.data(), batch), "collect");
	}
	t.seconds = now() - begin;
	return t;
}

/* Bytes a step has to move: weights in use, states in and out, KV. */
static double step_bytes(const struct cuda_device *d, const struct model_shape *m, uint32_t batch, double experts,
			 double length)
{
	const double value = m->gdn_v_heads * 128.0, channels = 2 * m->gdn_k_heads * 128.0 + value;
	uint64_t always, expert;
	const double states = 30 * (2 * value * 128 * 4 + 2 * 3 * channels * 2);

	cuda_device_weight_reads(d, &always, &expert);
	return (double)always + experts * (double)expert + batch * (states + 10 * length * 2 * m->n_kv_heads * 256 * 2);
}

static void table_row(struct cuda_device *d, struct sequences *s, const struct model_shape *m, uint32_t batch,
		      uint32_t context, uint32_t steps, double roof)
{
	struct cuda_stats profiled, plain;
	struct timing t;
	double experts, gb, ms;

	decode(d, s, batch, context, 8);	/* makes the graph */
	cuda_device_stats(d, &plain);
	t = decode(d, s, batch, context, steps);
	cuda_device_profile(d, true);
	decode(d, s, batch, context, 24);
	cuda_device_profile(d, false);
	check(cuda_device_stats(d, &profiled), "stats");
	experts = (double)profiled.experts_active / 24;
	ms = t.seconds * 1e3 / t.steps;
	gb = step_bytes(d, m, batch, experts, context + steps / 2.0) / 1e9;
	printf("| %u | %.1f | %.3f | %.2f | %.2f | %.3f | %.1f of %.1f | %.0f |\n", batch, batch * 1e3 / ms, ms, gb,
	       gb / ms, gb / ms / roof, experts / 40, 256 * (1 - pow(31.0 / 32, batch)), t.in_submit * 1e6 / t.steps);
	printf("classes, ms a step with events between:");
	for (int c = 0; c < CLASS_N; c++)
		printf(" %s %.3f;", cuda_class_name[c], profiled.class_ms[c] / 24);
	printf("\n");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	uint32_t context = 1024, steps = 512;
	const struct model_shape m = shape_35b();
	struct device_limits l = {};
	struct device_budget b;
	struct sequences s = {};
	struct dummy dummy = { m, DUMMY_BF16, 1 };
	const struct weight_source source = dummy_source(&dummy);
	struct cuda_device *d;
	struct err e = {};
	double roof, seconds;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--context"))
			context = (uint32_t)atoi(argv[i + 1]);
		if (!strcmp(argv[i], "--steps"))
			steps = (uint32_t)atoi(argv[i + 1]);
		if (!strcmp(argv[i], "--weights") && dummy_recipe_of(argv[i + 1], &dummy.recipe))
			return 64;
	}
	if (!have_gpu())
		return 77;
	roof = read_roof();
	l.n_slots = SLOTS;
	l.max_context = std::max(context + steps + 64, 32768u);
	s.pages = (context + steps) / 64 + 2;
	l.n_blocks = SLOTS * s.pages;
	l.max_rows = 8192;
	seconds = now();
	if (cuda_device_open("cuda:0", &m, &l, &d, &e) ||
	    cuda_device_load(d, &source, NULL, NULL, &e)) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	cuda_device_budget(d, &source, &b);
	printf("weights as %s; read roof %.2f TB/s; weights %.1f GB, KV %.1f, states %.1f, "
	       "workspace %.1f; made in %.1f s\n",
	       dummy_recipe_name(dummy.recipe), roof, (double)b.weights / 1e9, (double)b.kv / 1e9,
	       (double)b.states / 1e9, (double)b.workspace / 1e9, now() - seconds);
	for (uint32_t i = 0; i < SLOTS * s.pages; i++)
		s.blocks.push_back((i * 37u + 5) % l.n_blocks);
	for (uint32_t i = 0; i < SLOTS * context; i++)
		s.tokens.push_back(noise_philox(3, i, 0, 0, 0).w[0] % m.n_token_ids);
	prompts(d, &s);
	seconds = prefill(d, &s, context);
	printf("prefill, one after the other: %u x %u tokens, %.0f tok/s\n\n", SLOTS, context,
	       SLOTS * context / seconds);
	printf("| batch | tok/s | ms a step | GB a step | TB/s | of the read roof | experts a layer | us in submit |\n"
	       "|--:|--:|--:|--:|--:|--:|--:|--:|\n");
	for (uint32_t batch : { 1u, 8u, 16u, 64u })
		table_row(d, &s, &m, batch, context, steps, roof);
	cuda_device_close(d);
	return 0;
}
