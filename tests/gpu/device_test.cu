/* device_test.cu - the CUDA back end through its step calls, on a small random model of the served
 * family (widths of models/tiny): exactness by digests, results against a plain reference.
 *
 * Exits 77 without a GPU; --few: fewer steps, for the sanitizers. */
#include <errno.h>

#include <functional>

#include "kernels/cuda/device.h"
#include "kernels/noise.h"
#include "tests/gpu/gpu_test.h"
#include "tests/gpu/reference_model.h"

typedef std::vector<uint32_t> ids;

static bool few;

static const struct sampling GREEDY = { 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, false, NULL, 0, NULL, 0 };

static enum kv_format kv_now = KV_BF16;	/* of the devices that are opened */

static struct device_limits limits_of(bool digests)
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

static struct cuda_device *opened(const struct model *m, bool digests)
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

static struct sequence sequence_new(uint32_t slot, uint32_t first_block, ids prompt)
{
	struct sequence s = { slot, {}, prompt, 0 };

	for (uint32_t i = 0; i < 8; i++)	/* scattered: neighbours in a sequence are not in memory */
		s.blocks.push_back((first_block + i * 37) % 200);
	return s;
}

static ids random_ids(uint32_t n, uint32_t seed)
{
	ids t(n);

	for (uint32_t i = 0; i < n; i++)
		t[i] = noise_philox(seed, i, 7, 7, 7).w[0] % 1200;
	return t;
}

static struct plan_run run_of(const struct sequence *s, enum row_kind kind, uint32_t n, bool sample)
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

static std::vector<struct run_result> step(struct cuda_device *d, const std::vector<struct plan_run> &runs,
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

static bool same(const struct step_digest &a, const struct step_digest &b, bool kv)
{
	return a.hidden == b.hidden && a.logits == b.logits && a.state == b.state && (!kv || a.kv == b.kv);
}

static void begin(struct cuda_device *d, const struct sequence *s, const struct sampling *p)
{
	if (cuda_slot_begin(d, s->slot, p, s->tokens.data(), (uint32_t)s->tokens.size())) {
		fprintf(stderr, "slot_begin\n");
		exit(1);
	}
}

/* Prefills in the cuts given (the rest in one), sampling at the end; the last result. */
static struct run_result prefill(struct cuda_device *d, struct sequence *s, ids cuts)
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

static std::vector<struct run_result> decode(struct cuda_device *d, struct sequence *s, int n)
{
	std::vector<struct run_result> all;

	while (n--) {
		all.push_back(step(d, { run_of(s, ROW_DECODE, 1, true) })[0]);
		s->pos++;
		s->tokens.push_back(all.back().token);
	}
	return all;
}

static struct sampling sampled(uint64_t seed)
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

/* ---- exactness ------------------------------------------------------------------- */

static void cuts(struct cuda_device *d)
{
	const struct sampling p = sampled(5);
	std::vector<struct run_result> r;
	bool ok = true, blocks = true;
	std::vector<std::vector<char>> kept;

	for (ids c : { ids{}, ids{ 64, 128, 192 }, ids{ 64 }, ids{ 256 }, ids{ 320, 384 } }) {
		if (few && r.size() == 2)
			break;
		struct sequence s = sequence_new(3, (uint32_t)kept.size(), random_ids(400, 1));
		std::vector<char> kv;

		begin(d, &s, &p);
		r.push_back(prefill(d, &s, c));
		for (uint32_t b = 0; b < 6; b++) {
			kv.resize(kv.size() + cuda_block_bytes(d));
			cuda_block_save(d, s.blocks[b], kv.data() + kv.size() - cuda_block_bytes(d));
		}
		kept.push_back(kv);
		ok &= same(r[0].digest, r.back().digest, false) && r[0].token == r.back().token;
		blocks &= kept[0] == kv;
	}
	claim("a prompt cut into steps in five ways gives the same bits and the same sample", ok);
	claim("and the same KV in all full blocks", blocks);
}

static void neighbours(struct cuda_device *d)
{
	const uint32_t tokens = few ? 5 : 40;
	std::vector<struct run_result> alone;
	std::vector<struct sequence> others;
	bool ok = true;

	for (int crowd = 0; crowd < 2; crowd++) {
		struct sequence s = sequence_new(1, 0, random_ids(70, 2));
		const struct sampling p = sampled(9);

		begin(d, &s, &p);
		prefill(d, &s, {});
		if (!crowd) {
			alone = decode(d, &s, (int)tokens);
			continue;
		}
		for (uint32_t i = 0; i < 20; i++) {
			others.push_back(sequence_new(2 + i, 8 * (i + 1), random_ids(1 + 13 * (i % 5), 100 + i)));
			begin(d, &others[i], &p);
		}
		for (uint32_t t = 0; t < tokens; t++) {
			std::vector<struct plan_run> runs;
			std::vector<struct run_result> r;
			uint32_t mine = t % 7;

			for (uint32_t i = 0; i < (t * 5) % 21; i++) {
				struct sequence *o = &others[i];
				bool fresh = o->pos < o->tokens.size() && !o->pos;

				runs.push_back(run_of(o, fresh ? ROW_PREFILL : ROW_DECODE,
						      fresh ? (uint32_t)o->tokens.size() : 1, true));
			}
			mine = std::min(mine, (uint32_t)runs.size());
			runs.insert(runs.begin() + mine, run_of(&s, ROW_DECODE, 1, true));
			r = step(d, runs);
			ok &= same(r[mine].digest, alone[t].digest, true) && r[mine].token == alone[t].token;
			s.pos++;
			s.tokens.push_back(r[mine].token);
			for (uint32_t i = 0; i + 1 < runs.size(); i++) {
				uint32_t at = i + (i >= mine);

				others[i].pos += runs[at].n;
				others[i].tokens.push_back(r[at].token);
			}
		}
	}
	claim("sampled tokens alone and among 0 to 20 others: hidden, logits, KV, state, token bit-equal", ok);
}

/* An answer goes on between the parts of prompts; every other prompt is given up after its first. */
static void parts(struct cuda_device *d, uint32_t n_layers)
{
	const struct sampling p = sampled(21);
	struct sequence s = sequence_new(1, 0, random_ids(70, 31)), whole = sequence_new(9, 60, random_ids(400, 32));
	std::vector<struct run_result> alone, r;
	struct run_result want;
	bool answers = true, prompts = true, quiet = true;
	uint32_t t = 0;
	/* part 0 .. end - 1 of the next n rows of o, each with a token of s */
	auto take = [&](struct sequence *o, uint32_t n, uint32_t n_parts, uint32_t end) {
		const bool last = o->pos + n == o->tokens.size();

		for (uint32_t part = 0; part < end; part++, t++) {
			r = step(d, { run_of(&s, ROW_DECODE, 1, true), run_of(o, ROW_PREFILL, n, last) }, part, n_parts);
			answers &= same(r[0].digest, alone[t].digest, true) && r[0].token == alone[t].token;
			quiet &= r[1].sampled == (part + 1 == n_parts && last);
			s.pos++;
			s.tokens.push_back(r[0].token);
		}
		o->pos += n;
	};

	begin(d, &s, &p);
	prefill(d, &s, {});
	alone = decode(d, &s, few ? 1 + 2 * (int)n_layers : 200);
	begin(d, &whole, &p);
	want = prefill(d, &whole, { 192 });
	s = sequence_new(1, 0, random_ids(70, 31));
	begin(d, &s, &p);
	prefill(d, &s, {});
	for (uint32_t round = 0; round < (few ? 1 : 8); round++) {
		const uint32_t n_parts = 2 + round % (n_layers - 1);
		struct sequence up = sequence_new(2, 100, random_ids(300, 33)), o = sequence_new(3, 60, random_ids(400, 32));

		begin(d, &up, &p);
		take(&up, 256, 2 + round % 2, 1);
		begin(d, &o, &p);
		take(&o, 192, n_parts, n_parts);
		take(&o, 208, n_layers, n_layers);
		prompts &= same(r[1].digest, want.digest, true) && r[1].token == want.token;
	}
	claim("a prompt in parts has the bits and the sample of a whole one", prompts);
	claim("and the answer between them its own", answers);
	claim("only the last part samples", quiet);
}

static void replay(struct cuda_device *d)
{
	const struct sampling p = sampled(11);
	bool ok = true;

	for (uint32_t cut : few ? ids{ 17 } : ids{ 30, 1, 17 }) {
		struct sequence a = sequence_new(4, 0, random_ids(90, 3)), b;
		std::vector<struct run_result> r;
		struct run_result last = {};

		begin(d, &a, &p);
		prefill(d, &a, {});
		r = decode(d, &a, 31);
		b = sequence_new(5, 100, random_ids(90, 3));
		begin(d, &b, &p);
		prefill(d, &b, {});
		b.tokens = a.tokens;
		for (uint32_t left = 30; left;) {
			uint32_t n = std::min(left, cut);
			struct plan_run run = run_of(&b, ROW_REPLAY, n, false);

			/* the first was counted when it was sampled; the others are known, not sampled */
			last = step(d, { run })[0];
			b.pos += n;
			left -= n;
		}
		ok &= same(last.digest, r[29].digest, false);
	}
	claim("thirty tokens replayed in runs of 30, 1 and 17 give the bits of thirty decode steps", ok);
}

/* Fail-over: another slot begins with the same prompt, replays with `count`, goes on sampling. */
static void failover(struct cuda_device *d)
{
	const struct sampling p = sampled(13);
	struct sequence a = sequence_new(4, 0, random_ids(130, 4)), b = sequence_new(6, 90, random_ids(130, 4));
	std::vector<struct run_result> r, more;
	struct plan_run run;
	bool ok = true;

	begin(d, &a, &p);
	prefill(d, &a, {});
	r = decode(d, &a, 40);
	/* a.tokens: prompt, 41 samples. b prefills without sampling and replays 20 of them. */
	begin(d, &b, &p);
	step(d, { run_of(&b, ROW_PREFILL, 130, false) });
	b.pos = 130;
	b.tokens = a.tokens;
	run = run_of(&b, ROW_REPLAY, 20, false);
	run.count = true;
	step(d, { run });
	b.pos += 20;
	/* the 21st output is known but not in the state: decode it, as the dead worker would have */
	b.tokens.resize(151);
	run = run_of(&b, ROW_REPLAY, 1, true);
	run.count = true;
	more.push_back(step(d, { run })[0]);
	b.pos++;
	b.tokens.push_back(more[0].token);
	for (auto &x : decode(d, &b, 19))
		more.push_back(x);
	for (size_t i = 0; i < more.size(); i++)
		ok &= more[i].token == r[20 + i].token && same(more[i].digest, r[20 + i].digest, true);
	claim("a sampled answer with penalties continues on another slot after a replay as if nothing had happened", ok);
}

/* Submits one more decode step whose token the host does not know. */
static int ahead(struct cuda_device *d, struct sequence *s)
{
	struct plan_run run = run_of(s, ROW_DECODE, 1, true);
	const struct plan plan = { &run, 1, 0, 0 };
	int rc;

	run.input = IN_LAST_SAMPLE;
	run.tokens = NULL;
	rc = cuda_device_submit(d, &plan);
	s->pos += rc == 0;
	return rc;
}

static void pipeline(struct cuda_device *d)
{
	const struct sampling p = sampled(17);
	struct sequence a = sequence_new(7, 0, random_ids(66, 5)), b = sequence_new(8, 20, random_ids(66, 5));
	std::vector<struct run_result> want;
	struct run_result got;
	bool ok = true;

	begin(d, &a, &p);
	prefill(d, &a, {});
	want = decode(d, &a, 30);
	begin(d, &b, &p);
	prefill(d, &b, {});
	ok &= ahead(d, &b) == 0;
	for (uint32_t t = 0; t < 30; t++) {
		if (t < 29)
			ok &= ahead(d, &b) == 0;
		if (!t)
			claim("a third step in flight is refused with -EAGAIN", ahead(d, &b) == -EAGAIN);
		ok &= cuda_device_collect(d, &got, 1) == 1 && got.token == want[t].token;
	}
	ok &= cuda_device_collect(d, &got, 1) == -ENOENT;
	claim("a step ahead, the last sample fed back on the device: the same tokens", ok);
}

static void restore(struct cuda_device *d)
{
	const struct sampling p = sampled(19);
	struct sequence a = sequence_new(9, 0, random_ids(150, 6)), b = sequence_new(10, 60, random_ids(150, 6));
	std::vector<char> state(cuda_state_bytes(d)), kv(2 * cuda_block_bytes(d));
	std::vector<struct run_result> x, y;
	bool ok;

	begin(d, &a, &p);
	step(d, { run_of(&a, ROW_PREFILL, 128, false) });
	a.pos = 128;
	ok = !cuda_state_save(d, a.slot, state.data());
	for (int i = 0; i < 2; i++)
		ok &= !cuda_block_save(d, a.blocks[(size_t)i], kv.data() + (size_t)i * cuda_block_bytes(d));
	prefill(d, &a, {});
	x = decode(d, &a, 10);
	begin(d, &b, &p);
	ok &= !cuda_state_restore(d, b.slot, state.data());
	for (int i = 0; i < 2; i++)
		ok &= !cuda_block_restore(d, b.blocks[(size_t)i], kv.data() + (size_t)i * cuda_block_bytes(d));
	b.pos = 128;
	prefill(d, &b, {});
	y = decode(d, &b, 10);
	for (size_t i = 0; i < x.size(); i++)
		ok &= same(x[i].digest, y[i].digest, true) && x[i].token == y[i].token;
	claim("a state and its blocks saved at 128 and restored into another slot continue with the same bits", ok);
}

static void refused(struct cuda_device *d)
{
	struct sequence s = sequence_new(11, 0, random_ids(100, 7));
	const struct sampling p = GREEDY;
	struct plan_run good = run_of(&s, ROW_PREFILL, 100, true);
	struct sampling bad = GREEDY;
	bool ok = true;
	auto no = [&](int want, const std::function<void(struct plan_run &)> &change) {
		struct plan_run r = good;
		const struct plan plan = { &r, 1, 0, 0 };

		change(r);
		ok &= cuda_device_submit(d, &plan) == want;
	};

	begin(d, &s, &p);
	no(-EINVAL, [](struct plan_run &r) { r.slot = 24; });
	no(-EINVAL, [](struct plan_run &r) { r.n = 0; });
	no(-EINVAL, [](struct plan_run &r) { r.n_blocks = 1; });
	no(-EINVAL, [](struct plan_run &r) { r.pos = 1; });
	no(-EINVAL, [](struct plan_run &r) { r.pos = 0xffffffc0u; });
	no(-EINVAL, [](struct plan_run &r) { r.kind = ROW_DECODE; });
	no(-EINVAL, [](struct plan_run &r) { r.input = IN_LAST_SAMPLE; });
	no(-EINVAL, [](struct plan_run &r) { r.count = true; });
	no(-ENOTSUP, [](struct plan_run &r) { r.draft = true; });
	struct plan_run twice[2] = { good, good };
	const struct plan plan = { twice, 2, 0, 0 };
	ok &= cuda_device_submit(d, &plan) == -EINVAL;
	bad.top_p = 0;
	ok &= cuda_slot_begin(d, 0, &bad, NULL, 0) == -EINVAL;
	ok &= cuda_device_collect(d, NULL, 0) == -ENOENT;
	claim("plans and parameters that break a rule are refused, and nothing runs", ok);
}

/* ---- results --------------------------------------------------------------------- */

/* The contract's section 3 in plain C, on the logits that the device reported. */
static uint32_t reference_sample(std::vector<float> x, const struct sampling *s, const ids &prompt, const ids &out,
				 uint32_t n_ids, uint32_t position)
{
	std::vector<uint32_t> order;
	std::vector<double> p;
	double total = 0, sum = 0, best = -INFINITY;
	uint32_t token = 0, keep;

	for (uint32_t i = 0; i < s->n_bias; i++)
		x[s->bias[i].id] += s->bias[i].bias;
	for (uint32_t i = 0; i < s->n_never; i++)
		x[s->never[i]] = -INFINITY;
	for (uint32_t i = 0; i < n_ids; i++) {
		long n = std::count(out.begin(), out.end(), i);

		if (n || std::count(prompt.begin(), prompt.end(), i))
			x[i] = x[i] > 0 ? x[i] / s->repetition : x[i] * s->repetition;
		if (n)
			x[i] = x[i] - s->frequency * (float)n - s->presence;
		if (s->temperature > 0)
			x[i] /= s->temperature;
		order.push_back(i);
	}
	std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return x[a] > x[b]; });
	if (s->temperature == 0)
		return order[0];
	keep = 0;
	while (keep < order.size() && x[order[keep]] > -INFINITY &&
	       (s->min_p <= 0 || x[order[keep]] >= x[order[0]] + logf(s->min_p)) && (!s->top_k || keep < s->top_k))
		keep++;
	for (uint32_t i = 0; i < keep; i++) {
		p.push_back(exp((double)x[order[i]] - (double)x[order[0]]));
		total += p[i];
	}
	for (uint32_t i = 0; i < keep; i++) {
		double score = (double)x[order[i]] -
			       log(-log((double)noise_uniform(s->seed, s->choice, position, order[i])));

		if (s->top_p < 1 && sum >= (double)s->top_p * total)
			break;
		sum += p[i];
		if (score > best) {
			best = score;
			token = order[i];
		}
	}
	return token;
}

static struct sampling parameters(uint32_t i, struct token_bias *bias, uint32_t *never)
{
	struct sampling s = GREEDY;

	s.seed = i * 77 + 1;
	s.choice = i % 3;
	s.temperature = i % 8 == 0 ? 0 : 0.5f + 0.3f * (float)(i % 4);
	s.top_k = i % 3 == 0 ? 0 : i % 3 == 1 ? 20 : 700;
	s.top_p = i % 2 ? 1 : 0.5f + 0.1f * (float)(i % 5);
	s.min_p = i % 5 == 4 ? 0.05f : 0;
	if (i % 7 > 3) {
		s.repetition = 1.3f;
		s.presence = 0.5f;
		s.frequency = 0.25f;
	}
	s.logprob = true;
	s.n_top = i % 21;
	if (i % 6 == 5) {
		for (uint32_t j = 0; j < 40; j++)
			bias[j] = { j * 29, j % 2 ? 3.0f : -4.0f };
		for (uint32_t j = 0; j < 600; j++)
			never[j] = 600 + j;
		s.bias = bias;
		s.n_bias = 40;
		s.never = never;
		s.n_never = 600;
	}
	return s;
}

static void sampling_rules(struct cuda_device *d, const struct model *m)
{
	const uint32_t sets = few ? 6 : 60;
	uint32_t wrong = 0, samples = 0, tops = 0;
	double worst = 0;

	for (uint32_t i = 0; i < sets; i++) {
		struct token_bias bias[40];
		uint32_t never[600];
		const struct sampling p = parameters(i, bias, never);
		struct sequence s = sequence_new(i % 24, 8 * (i % 24), random_ids(20 + i, 50 + i));
		const ids prompt = s.tokens;
		ids out;

		begin(d, &s, &p);
		for (int t = 0; t < (few ? 2 : 8); t++) {
			std::vector<float> logits((s.tokens.size() - s.pos) * m->shape.vocab_rows), last;
			struct plan_run r = run_of(&s, t ? ROW_DECODE : ROW_PREFILL, (uint32_t)s.tokens.size() - s.pos, true);
			struct run_result got;
			double sum = 0;
			uint32_t want;

			r.logits = logits.data();
			got = step(d, { r })[0];
			last.assign(logits.end() - m->shape.vocab_rows, logits.end());
			want = reference_sample(last, &p, prompt, out, m->shape.n_token_ids, (uint32_t)s.tokens.size());
			wrong += got.token != want;
			samples++;
			for (uint32_t j = 0; j < m->shape.n_token_ids; j++)
				sum += exp((double)last[j]);
			worst = std::max(worst, fabs(got.logprob - ((double)last[got.token] - log(sum))));
			std::vector<uint32_t> order(m->shape.n_token_ids);
			for (uint32_t j = 0; j < order.size(); j++)
				order[j] = j;
			std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return last[a] > last[b]; });
			tops += got.n_top != p.n_top;
			for (uint32_t j = 0; j < got.n_top; j++)
				tops += got.top[j].id != order[j];
			s.pos = (uint32_t)s.tokens.size();
			s.tokens.push_back(got.token);
			out.push_back(got.token);
		}
	}
	printf("%u samples under %u sets of parameters, %u differ; log-probability off by %.1e at most\n", samples, sets,
	       wrong, worst);
	claim("bias, masks, penalties, temperature, min_p, top_k, top_p and noise choose what plain C chooses", !wrong);
	claim("log-probabilities are within 1e-5, the alternatives are the largest logits in order",
	      worst < 1e-5 && !tops);
}

/* KL of each position's distribution from the reference's, and how often the most likely ids agree. */
struct difference {
	std::vector<double> kl;
	double mean, most;
	uint32_t agree;
};

static struct difference compare(const std::vector<float> &got, const std::vector<double> &want, uint32_t v)
{
	struct difference d = {};

	for (size_t t = 0; t < got.size() / v; t++) {
		const float *g = &got[t * v];
		const double *w = &want[t * v];
		double zg = 0, zw = 0, kl = 0;

		for (uint32_t i = 0; i < v; i++) {
			zg += exp((double)g[i]);
			zw += exp(w[i]);
		}
		for (uint32_t i = 0; i < v; i++)
			kl += exp(w[i]) / zw * (w[i] - log(zw) - (double)g[i] + log(zg));
		d.kl.push_back(kl);
		d.mean += kl * v / (double)got.size();
		d.most = std::max(d.most, kl);
		d.agree += std::max_element(g, g + v) - g == std::max_element(w, w + v) - w;
	}
	return d;
}

static struct difference differ(struct cuda_device *d, const struct model *m, enum row_kind kind, const std::vector<double> &want)
{
	struct sequence s = sequence_new(12, 0, random_ids(96, 8));
	std::vector<float> got(96 * m->shape.vocab_rows);
	struct plan_run r = run_of(&s, kind, 96, true);
	struct difference x;

	begin(d, &s, &GREEDY);
	r.logits = got.data();
	step(d, { r });
	x = compare(got, want, m->shape.vocab_rows);
	printf("%s against the reference over 96 positions: arg-max agrees on %u, KL mean %.1e, most %.1e; above 1e-3:",
	       kind == ROW_PREFILL ? "prefill" : "decode", x.agree, x.mean, x.most);
	for (size_t t = 0; t < x.kl.size(); t++)
		if (x.kl[t] > 1e-3)
			printf(" %zu (%.0e)", t, x.kl[t]);
	printf("\n");
	return x;
}

/* times: how much further off than the kernels' own roundings are.  Random logits have near ties: the most likely id may differ
 * where distributions hardly do. */
static void against_reference(struct cuda_device *d, const struct model *m, double times)
{
	struct sequence s = sequence_new(12, 0, random_ids(96, 8));
	const std::vector<double> want = reference_logits(m, s.tokens, kv_now);
	const struct difference decode = differ(d, m, ROW_REPLAY, want), prefill = differ(d, m, ROW_PREFILL, want);

	claim("decode kernels agree with a reference in double: arg-max on 92 of 96, KL <= 1e-3 everywhere",
	      decode.agree >= 92 && decode.most <= 1e-3 * times);
	/* Which experts are chosen is a step, and the state carries a step on: where few of many random experts are chosen,
	 * the prefill kernels' own roundings take another one now and then. */
	if (m->shape.n_experts_used == m->shape.n_experts)
		claim("prefill kernels agree with a reference in double: arg-max on 88 of 96, KL <= 2e-3 everywhere",
		      prefill.agree >= 88 && prefill.most <= 2e-3 * times);
	else
		claim("prefill kernels agree with a reference in double: arg-max on 88 of 96, KL 2e-2 in the mean",
		      prefill.agree >= 88 && prefill.mean <= 2e-2);
}

/* The formats of a published checkpoint: as exact, and the reference's weights are what the codes mean. */
static void quantised(enum dummy_recipe recipe)
{
	struct cuda_device *d;
	struct model m;

	printf("formats as in %s\n", dummy_recipe_name(recipe));
	model_fill(&m, 1);
	model_quantise(&m, recipe);
	d = opened(&m, true);
	cuts(d);
	neighbours(d);
	if (!few) {
		parts(d, m.shape.n_layers);
		replay(d);
	}
	cuda_device_close(d);
	m.shape.n_experts_used = m.shape.n_experts;
	d = opened(&m, false);
	against_reference(d, &m, 1);
	cuda_device_close(d);
}

/* An expert, or one half of gate and up, in another format: all of them become BF16, which rounds each weight once. */
static void mixed(void)
{
	struct cuda_device *d;
	struct model m;

	printf("experts in several formats\n");
	model_fill(&m, 1);
	m.shape.n_experts_used = m.shape.n_experts;
	quantise_nvfp4(&m.weights.at(std::make_tuple((int)W_EXPERT_DOWN, 1u, 3u)));
	quantise_fp8(&m.weights.at(std::make_tuple((int)W_SHARED_UP, 2u, 0u)), 128, 128);
	quantise_fp8(&m.weights.at(std::make_tuple((int)W_GDN_Z, 0u, 0u)), 64, 128);	/* blocks of another size */
	d = opened(&m, false);
	against_reference(d, &m, 3);
	cuda_device_close(d);
}

/* The blocks of 140 tokens: 100 as a prompt, 40 replayed by the decode kernels. */
static std::vector<char> blocks_of(const struct model *m, enum kv_format kv)
{
	struct sequence s = sequence_new(2, 0, random_ids(140, 9));
	std::vector<char> all;
	struct cuda_device *d;

	kv_now = kv;
	d = opened(m, false);
	begin(d, &s, &GREEDY);
	step(d, { run_of(&s, ROW_PREFILL, 100, false) });
	s.pos = 100;
	step(d, { run_of(&s, ROW_REPLAY, 40, false) });
	for (size_t b = 0; b < 3; b++) {
		all.resize(all.size() + cuda_block_bytes(d));
		if (cuda_block_save(d, s.blocks[b], &all[all.size() - cuda_block_bytes(d)]))
			exit(1);
	}
	cuda_device_close(d);
	return all;
}

/* The only layer of attention is the last: what goes into it does not depend on how its keys are kept. */
static void narrow_blocks(const struct model *m)
{
	const std::vector<char> wide = blocks_of(m, KV_BF16), narrow = blocks_of(m, KV_FP8);
	bool same = narrow.size() == 3 * 2 * KV_HEAD && wide.size() == 3 * 2 * KV_CODES * 2;

	for (uint32_t i = 0; same && i < 2 * 140; i++) {	/* key and value of each position */
		const size_t head = i / 2 / STEP_GRID * 2 + i % 2, offset = i / 2 % STEP_GRID;
		const uint8_t *got = (const uint8_t *)&narrow[head * KV_HEAD];
		std::vector<uint8_t> want(KV_HEAD);
		__nv_bfloat16 x[256];

		memcpy((void *)x, &wide[(head * KV_CODES + offset * 256) * 2], sizeof(x));
		kv_put(want.data(), (uint32_t)offset, x);
		same = !memcmp(got + offset * 256, &want[offset * 256], 256) && got[KV_CODES + offset] == want[KV_CODES + offset];
	}
	claim("prompt and decode leave the codes that e4m3_head() makes of a BF16 device's keys and values", same);
}

/* Keys and values in FP8: as exact; the reference rounds what it keeps as e4m3.c does; the memory is what was said. */
static void narrow_kv(const struct model *m)
{
	/* a layer of attention with one head: a key and a value, each 256 codes and a power */
	const size_t block = 2 * STEP_GRID * 257;
	struct device_budget budget;
	struct cuda_device *d;
	struct model all = *m;

	printf("keys and values in FP8\n");
	narrow_blocks(m);
	d = opened(m, true);
	cuda_device_budget(d, NULL, &budget);
	claim("an FP8 block has the bytes it should, and so has the budget",
	      cuda_block_bytes(d) == block && budget.kv == limits_of(true).n_blocks * block);
	claim("FP8 is said in the numeric class", strstr(cuda_device_numeric_text(d), " kv=fp8") != NULL);
	cuts(d);
	neighbours(d);
	if (!few) {
		parts(d, m->shape.n_layers);
		replay(d);
		failover(d);
	}
	restore(d);
	cuda_device_close(d);
	all.shape.n_experts_used = all.shape.n_experts;
	d = opened(&all, false);
	/* what rounds the other way is off by a sixteenth, not by a 256th */
	against_reference(d, &all, 2);
	pipeline(d);
	cuda_device_close(d);
	kv_now = KV_BF16;
}

static void with_nan(void)
{
	const struct device_limits l = limits_of(false);
	struct cuda_device *d;
	struct err e = {};
	struct model m;
	bool named = true;

	model_fill(&m, 1);
	model_quantise(&m, DUMMY_NVFP4_FP8);
	for (int i = 0; i < 2; i++) {
		tensor &t = m.weights.at(i ? std::make_tuple((int)W_GDN_OUT, 1u, 0u) : std::make_tuple((int)W_EXPERT_UP, 1u, 4u));
		std::vector<uint8_t> &bytes = i ? t.codes : t.scale;
		const uint8_t was = bytes[777];
		struct weight_source w = m.source();

		bytes[777] = 0xff;
		named = named && !cuda_device_open("cuda:0", &m.shape, &l, &d, &e) &&
			cuda_device_load(d, &w, NULL, NULL, &e) == -EINVAL &&
			strstr(e.text, weight_slot_name(i ? W_GDN_OUT : W_EXPERT_UP)) && strstr(e.text, "NaN");
		cuda_device_close(d);
		bytes[777] = was;
	}
	claim("a NaN among codes or scales is refused by name", named);
}

int main(int argc, char **argv)
{
	struct cuda_device *d;
	struct model m;

	if (!have_gpu())
		return 77;
	few = asked(argc, argv, "--few");
	model_fill(&m, 1);
	d = opened(&m, true);
	cuts(d);
	neighbours(d);
	parts(d, m.shape.n_layers);
	replay(d);
	if (!few)
		failover(d);
	restore(d);
	refused(d);
	cuda_device_close(d);
	d = opened(&m, false);
	against_reference(d, &m, 1);
	pipeline(d);
	sampling_rules(d, &m);
	cuda_device_close(d);
	narrow_kv(&m);
	m.shape.n_experts_used = m.shape.n_experts;
	d = opened(&m, false);
	against_reference(d, &m, 1);
	cuda_device_close(d);
	for (enum dummy_recipe r : { DUMMY_FP8, DUMMY_NVFP4, DUMMY_NVFP4_FP8 })
		quantised(r);
	mixed();
	with_nan();
	claim("no CUDA error is left behind", cudaGetLastError() == cudaSuccess);
	return n_failed != 0;
}
