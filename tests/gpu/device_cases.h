/* device_cases.h - what the tests of the CUDA back end share: a device with a small random model of the
 * served family (widths of models/tiny), sequences, and steps that take them on. */
#ifndef HEARTH_TESTS_GPU_DEVICE_CASES_H
#define HEARTH_TESTS_GPU_DEVICE_CASES_H

#include "kernels/cuda/device.h"
#include "kernels/noise.h"
#include "tests/gpu/gpu_test.h"
#include "tests/gpu/reference_model.h"

typedef std::vector<uint32_t> ids;

static bool few;

static const struct sampling GREEDY = { 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, false, NULL, 0, NULL, 0 };

static enum kv_format kv_now = KV_BF16;	/* of the devices that are opened */

static inline struct device_limits limits_of(bool digests)
{
	struct device_limits l = {};

	l.n_slots = 24;
	l.n_blocks = 200;
	l.max_rows = 512;
	l.max_context = 1024;
	l.digests = digests;
	l.kv = kv_now;
	return l;
}

static inline struct cuda_device *opened(const struct model *m, bool digests)
{
	const struct device_limits l = limits_of(digests);
	struct weight_source w = m->source();
	struct cuda_device *d;
	struct err e = {};

	if (cuda_device_open("cuda:0", &m->shape, &l, &d, &e) || cuda_device_load(d, &w, NULL, NULL, &e)) {
		fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
	return d;
}

/* A sequence: its slot, blocks and tokens so far. */
struct sequence {
	uint32_t slot;
	std::vector<kv_block> blocks;
	ids tokens;
	uint32_t pos;		/* of tokens: in the state */
};

static inline struct sequence sequence_new(uint32_t slot, uint32_t first_block, ids prompt)
{
	struct sequence s = { slot, {}, prompt, 0 };

	for (uint32_t i = 0; i < 8; i++)	/* scattered: neighbours in a sequence are not in memory */
		s.blocks.push_back((first_block + i * 37) % 200);
	return s;
}

static inline ids random_ids(uint32_t n, uint32_t seed)
{
	ids t(n);

	for (uint32_t i = 0; i < n; i++)
		t[i] = noise_philox(seed, i, 7, 7, 7).w[0] % 1200;
	return t;
}

static inline struct plan_run run_of(const struct sequence *s, enum row_kind kind, uint32_t n, bool sample)
{
	struct plan_run r = {};

	r.slot = s->slot;
	r.kind = kind;
	r.pos = s->pos;
	r.n = n;
	r.tokens = s->tokens.data() + s->pos;
	r.blocks = s->blocks.data();
	r.n_blocks = (uint32_t)s->blocks.size();
	r.sample = sample;
	return r;
}

static inline std::vector<struct run_result> step(struct cuda_device *d, const std::vector<struct plan_run> &runs,
					   uint32_t part = 0, uint32_t n_parts = 0)
{
	const struct plan p = { runs.data(), (uint32_t)runs.size(), part, n_parts };
	std::vector<struct run_result> r(runs.size());
	int rc = cuda_device_submit(d, &p);

	rc = rc ? rc : cuda_device_collect(d, r.data(), (uint32_t)r.size());
	if (rc != (int)r.size()) {
		fprintf(stderr, "step: %d: %s\n", rc, cudaGetErrorString(cudaGetLastError()));
		exit(1);
	}
	return r;
}

static inline bool same(const struct step_digest &a, const struct step_digest &b, bool kv)
{
	return a.hidden == b.hidden && a.logits == b.logits && a.state == b.state && (!kv || a.kv == b.kv);
}

static inline void begin(struct cuda_device *d, const struct sequence *s, const struct sampling *p)
{
	if (cuda_slot_begin(d, s->slot, p, s->tokens.data(), (uint32_t)s->tokens.size())) {
		fprintf(stderr, "slot_begin\n");
		exit(1);
	}
}

/* Prefills in the cuts given (the rest in one), sampling at the end; the last result. */
static inline struct run_result prefill(struct cuda_device *d, struct sequence *s, ids cuts)
{
	struct run_result last = {};

	cuts.push_back((uint32_t)s->tokens.size());
	for (uint32_t end : cuts) {
		last = step(d, { run_of(s, ROW_PREFILL, end - s->pos, end == s->tokens.size()) })[0];
		s->pos = end;
	}
	s->tokens.push_back(last.token);
	return last;
}

static inline std::vector<struct run_result> decode(struct cuda_device *d, struct sequence *s, int n)
{
	std::vector<struct run_result> all;

	while (n--) {
		all.push_back(step(d, { run_of(s, ROW_DECODE, 1, true) })[0]);
		s->pos++;
		s->tokens.push_back(all.back().token);
	}
	return all;
}

static inline struct sampling sampled(uint64_t seed)
{
	struct sampling s = GREEDY;

	s.temperature = 0.8f;
	s.top_k = 40;
	s.top_p = 0.95f;
	s.seed = seed;
	s.repetition = 1.1f;
	s.presence = 0.2f;
	s.frequency = 0.1f;
	return s;
}

#endif
