/* device_results_test.cu - the CUDA back end through its step calls: logits against a plain reference in
 * double, in every format, samples against plain C, what a prompt and an answer leave in blocks of FP8, and
 * weights that are refused.  Exactness: device_test.cu.
 *
 * Exits 77 without a GPU; --few: fewer steps, for the sanitizers. */
#include <errno.h>

#include "tests/gpu/device_cases.h"

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

/* Positions that are compared. */
static uint32_t positions(void)
{
	return few ? 24 : 96;
}

static struct difference differ(struct cuda_device *d, const struct model *m, enum row_kind kind, const std::vector<double> &want)
{
	struct sequence s = sequence_new(12, 0, random_ids(positions(), 8));
	std::vector<float> got(positions() * m->shape.vocab_rows);
	struct plan_run r = run_of(&s, kind, positions(), true);
	struct difference x;

	begin(d, &s, &GREEDY);
	r.logits = got.data();
	step(d, { r });
	x = compare(got, want, m->shape.vocab_rows);
	printf("%s against the reference over %u positions: arg-max agrees on %u, KL mean %.1e, most %.1e; above 1e-3:",
	       kind == ROW_PREFILL ? "prefill" : "decode", positions(), x.agree, x.mean, x.most);
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
	struct sequence s = sequence_new(12, 0, random_ids(positions(), 8));
	const std::vector<double> want = reference_logits(m, s.tokens, kv_now);
	const struct difference decode = differ(d, m, ROW_REPLAY, want), prefill = differ(d, m, ROW_PREFILL, want);

	claim("decode kernels agree with a reference in double: arg-max on all but 4, KL 3e-4 in the mean, <= 2e-3 everywhere",
	      decode.agree + 4 >= positions() && decode.mean <= 3e-4 * times && decode.most <= 2e-3 * times);
	/* Which experts are chosen is a step, and the state carries a step on: where few of many random experts are chosen,
	 * the prefill kernels' own roundings take another one now and then. */
	if (m->shape.n_experts_used == m->shape.n_experts)
		claim("prefill kernels agree with a reference in double: arg-max on all but 8, KL <= 2e-3 everywhere",
		      prefill.agree + 8 >= positions() && prefill.most <= 2e-3 * times);
	else
		claim("prefill kernels agree with a reference in double: arg-max on all but 8, KL 2e-2 in the mean",
		      prefill.agree + 8 >= positions() && prefill.mean <= 2e-2);
}

/* All experts of each layer are used. */
static void with_all_experts(const struct model *m, enum kv_format kv, double times)
{
	struct cuda_device *d;

	kv_now = kv;
	d = opened(m, false);
	against_reference(d, m, times);
	cuda_device_close(d);
	kv_now = KV_BF16;
}

/* The formats of a published checkpoint: the reference's weights are what the codes mean. */
static void quantised(enum dummy_recipe recipe)
{
	struct model m;

	printf("formats as in %s\n", dummy_recipe_name(recipe));
	model_fill(&m, 1);
	model_quantise(&m, recipe);
	m.shape.n_experts_used = m.shape.n_experts;
	with_all_experts(&m, KV_BF16, 1);
}

/* An expert, or one half of gate and up, in another format: all of them become BF16, which rounds each weight once. */
static void mixed(void)
{
	struct model m;

	printf("experts in several formats\n");
	model_fill(&m, 1);
	m.shape.n_experts_used = m.shape.n_experts;
	quantise_nvfp4(&m.weights.at(std::make_tuple((int)W_EXPERT_DOWN, 1u, 3u)));
	quantise_fp8(&m.weights.at(std::make_tuple((int)W_SHARED_UP, 2u, 0u)), 128, 128);
	quantise_fp8(&m.weights.at(std::make_tuple((int)W_GDN_Z, 0u, 0u)), 64, 128);	/* blocks of another size */
	with_all_experts(&m, KV_BF16, 3);
}

/* The blocks of 140 tokens: 100 as a prompt, 40 replayed by the decode kernels. */
static std::vector<char> blocks_of(const struct model *m, enum kv_format kv)
{
	struct sequence s = sequence_new(2, 0, random_ids(140, 9));
	std::vector<char> all;
	struct cuda_device *d;

	kv_now = kv;
	d = opened(m, false);
	all.resize(cuda_block_bytes(d));
	if (cuda_block_restore(d, s.blocks[2], all.data()))	/* 12 positions of it are filled, and all come back */
		exit(1);
	all.clear();
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
	kv_now = KV_BF16;
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
	struct model m, all;

	if (!have_gpu())
		return 77;
	few = asked(argc, argv, "--few");
	model_fill(&m, 1);
	d = opened(&m, false);
	if (!few)	/* so few positions have no mean */
		against_reference(d, &m, 1);
	sampling_rules(d, &m);
	cuda_device_close(d);
	narrow_blocks(&m);
	all = m;
	all.shape.n_experts_used = all.shape.n_experts;
	with_all_experts(&all, KV_BF16, 1);
	/* what rounds the other way is off by a sixteenth, not by a 256th */
	with_all_experts(&all, KV_FP8, 2);
	for (enum dummy_recipe r : { DUMMY_NVFP4_FP8, DUMMY_FP8, DUMMY_NVFP4 })
		if (!few || r == DUMMY_NVFP4_FP8)
			quantised(r);
	if (!few)
		mixed();
	with_nan();
	claim("no CUDA error is left behind", cudaGetLastError() == cudaSuccess);
	return n_failed != 0;
}
