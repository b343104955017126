/* sample_test.cu - a logit that is no number is found, in its row only, whatever the row's parameters; rows of
 * numbers are sampled as if nobody looked, and as the CPU back end does.  Exits 77 without a GPU; --few: fewer
 * places, for the sanitizers. */
#include "kernels/cuda/sample.h"
#include "tests/gpu/gpu_test.h"

extern "C" {
#include "kernels/cpu/sample.h"
}

constexpr uint32_t ROWS = 6;

struct world {
	const uint32_t vocab, ids;
	bool told = false;	/* where samples are reported: by the arguments, or in turns by a word in memory */
	array<sample_row> rows{ ROWS };
	array<sample_params> params{ ROWS };
	array<sample_bias> bias{ (size_t)ROWS * SAMPLE_MAX_BIAS };
	array<uint32_t> counts{ (size_t)ROWS * vocab }, last{ ROWS };
	array<float> logits{ (size_t)ROWS * vocab };
	array<uint64_t> keys{ (size_t)ROWS * SAMPLE_SEGMENTS };
	array<sample_out> out{ ROWS };
	array<sample_out *> out_at{ 1 };
	std::vector<uint32_t> counted;	/* what penalties' counts begin with each time; nothing: 0 */

	/* Samples all rows. */
	std::vector<sample_out> run(const std::vector<float> &x)
	{
		told = !told;

		const sample_args a = { rows.d, params.d, bias.d, counts.d, last.d, logits.d, keys.d,
					told ? out.d : nullptr, out_at.d, ROWS, vocab, ids };

		out_at.h[0] = told ? nullptr : out.d;
		out_at.up();
		logits.h = x;
		logits.up();
		std::fill(counts.h.begin(), counts.h.end(), 0u);
		std::copy(counted.begin(), counted.end(), counts.h.begin());
		counts.up();
		/* a record is only written as far as it was asked for */
		CUDA(cudaMemset(out.d, 0, out.h.size() * sizeof(sample_out)));
		if (sample_rows(&a, nullptr))
			exit(1);
		CUDA(cudaDeviceSynchronize());
		out.down();
		return out.h;
	}
};

static void set_up(struct world *w)
{
	for (uint32_t r = 0; r < ROWS; r++) {
		sample_params p = {};

		p.seed = r;
		p.top_p = 1;
		p.repetition = 1;
		p.temperature = r ? 0.8f : 0;	/* row 0: greedy */
		p.top_k = r == 1 ? 20 : 0;
		p.top_p = r == 1 || r == 2 ? 0.95f : 1;
		p.min_p = r == 3 ? 0.01f : 0;
		p.penalise = r == 3;
		p.presence = r == 3 ? 0.5f : 0;
		p.n_bias = r == 4 ? 2 : 0;
		p.logprob = r == 5;
		p.n_top = r == 5 ? 5 : 0;
		w->params.h[r] = p;
		w->rows.h[r] = { r, 100, r, 0 };
	}
	w->bias.h[4 * SAMPLE_MAX_BIAS] = { 7, -INFINITY };	/* a forbidden id is no fault */
	w->bias.h[4 * SAMPLE_MAX_BIAS + 1] = { w->ids - 1, 2 };
	w->rows.up();
	w->params.up();
	w->bias.up();
}

static void sampled(uint32_t vocab, uint32_t ids, bool few)
{
	const float bad[] = { NAN, -NAN, INFINITY, -INFINITY };
	const uint32_t places[] = { 0, 1, 7, 255, 256, 1023, ids / 2, ids - 2, ids - 1 };
	bool clean = true, found = true, alone = true, padding = true;
	struct world w = { vocab, ids };
	std::vector<float> x((size_t)ROWS * vocab), y;

	printf("%u ids in rows of %u\n", ids, vocab);
	set_up(&w);
	for (float &v : x)
		v = 10 * uniform();
	const std::vector<sample_out> good = w.run(x);
	for (const sample_out &o : good)
		clean = clean && !o.no_number && o.token < ids;
	for (uint32_t r = 0; r < ROWS; r++)
		for (uint32_t at : places)
			for (float b : bad) {
				if (few && (r != 3 || at != 7 || b == INFINITY))
					continue;
				y = x;
				y[(size_t)r * vocab + at] = b;
				const std::vector<sample_out> o = w.run(y);
				for (uint32_t i = 0; i < ROWS; i++)
					if (i == r)
						found = found && o[i].no_number == 1 && o[i].token == 0;
					else
						alone = alone && !o[i].no_number && o[i].token == good[i].token;
			}
	y = x;
	for (uint32_t r = 0; r < ROWS; r++)
		for (uint32_t i = ids; i < vocab; i++)
			y[(size_t)r * vocab + i] = bad[i % 4];
	const std::vector<sample_out> o = w.run(y);
	for (uint32_t r = 0; r < ROWS; r++)
		padding = padding && !o[r].no_number && o[r].token == good[r].token;
	claim("rows of numbers are not flagged", clean);
	claim("NaN and infinities are found at every place, with every kind of parameters", found);
	claim("a row without a number changes no other", alone);
	claim("what stands behind the ids is not looked at", padding);
	claim("nothing is written behind the arrays", w.out.guarded() && w.keys.guarded() && w.logits.guarded());
}

/* A row whose largest logit is at `at`: greedy finds it, and of three that stand out top_k 3 draws none but them. */
static void largest_found(uint32_t vocab, uint32_t ids, bool few)
{
	const uint32_t each = (ids + SAMPLE_SEGMENTS - 1) / SAMPLE_SEGMENTS;
	struct world w = { vocab, ids };
	std::vector<float> x((size_t)ROWS * vocab);
	bool greedy = true, drawn = true;

	set_up(&w);
	w.params.h[1].top_k = 3;
	w.params.up();
	for (float &v : x)
		v = uniform();
	std::vector<uint32_t> places = { ids - 1, ids - 2, (ids - 1) / each * each };	/* the last segment is a short one */

	for (uint32_t at = 0; at < ids; at += few ? ids / 3 : at < each ? 1 : 4999)
		places.push_back(at);
	for (uint32_t at : places) {
		const uint32_t three[] = { at, (at + each) % ids, (at + ids / 2) % ids };

		std::vector<float> y = x;
		y[at] = 20;
		for (uint32_t i : three)
			y[(size_t)1 * vocab + i] = 20;
		const std::vector<sample_out> o = w.run(y);
		greedy = greedy && o[0].token == at;
		drawn = drawn && (o[1].token == three[0] || o[1].token == three[1] || o[1].token == three[2]);
	}
	claim("the largest is found at every place of a segment", greedy);
	claim("only the three that stand out are drawn with top_k 3", drawn);
}

/* ---- against the CPU back end ---------------------------------------------------------------- */

template <typename T, size_t N> static T one_of(const T (&of)[N])
{
	return of[rng() % N];
}

/* A row's parameters, of all kinds, in the words of both. */
static void any_params(uint32_t row, struct sampling *s, struct sample_params *p)
{
	const uint32_t ks[] = { 0, 1, 3, 20, 32, 33, 300, 512, 600 };
	const float temperatures[] = { 0, 0.3f, 0.7f, 1, 1.5f, 1e6f }, top_ps[] = { 1, 0.95f, 0.4f }, min_ps[] = { 0, 0, 0.05f };

	*s = {};
	s->temperature = one_of(temperatures);
	s->top_k = one_of(ks);
	s->top_p = one_of(top_ps);
	s->min_p = one_of(min_ps);
	s->seed = rng();
	s->choice = rng() % 4;
	s->repetition = 1;
	if (row % 3 == 2) {
		s->repetition = 1.25f;
		s->presence = 0.5f;
		s->frequency = -0.25f;
	}
	*p = { s->seed,	   s->temperature, s->top_p,  s->min_p, s->repetition, s->presence,
	       s->frequency, s->top_k,	     s->choice, 0,	  0,		 0,
	       row % 3 == 2 };
}

enum logits { NORMAL, STEPS, FLAT, PEAK, N_LOGITS };

static float any_logit(enum logits kind)
{
	const float normal = 2 * (uniform() + uniform() + uniform() + uniform());

	switch (kind) {
	case STEPS: return floorf(normal);	/* many ties */
	case FLAT: return normal / 4096 - 1;
	case PEAK: return rng() % 5000 ? normal : 12 + normal / 16;
	default: return normal;
	}
}

/* What was said before, of all rows: a token in fifty is of the prompt, and one was answered some times. */
static void any_counts(struct world *w)
{
	w->counted.assign((size_t)ROWS * w->vocab, 0);
	for (uint32_t &c : w->counted)
		c = (rng() % 50 ? 0 : COUNT_PROMPT) | (rng() % 50 ? 0 : rng() % 4);
}

static uint32_t cpu_token(const struct sampling &s, const struct world &w, uint32_t row, const float *x)
{
	std::vector<float> logits(w.vocab);
	std::vector<uint32_t> ids(w.vocab), prompt;
	struct sample_room room = { logits.data(), ids.data() };
	struct run_result ret = {};
	struct sampler *sampler;

	for (uint32_t i = 0; i < w.ids; i++)
		if (w.counted[(size_t)row * w.vocab + i] & COUNT_PROMPT)
			prompt.push_back(i);
	if (sampler_new(&s, w.vocab, prompt.data(), (uint32_t)prompt.size(), &sampler))
		exit(1);
	for (uint32_t i = 0; i < w.ids; i++)
		for (uint32_t n = w.counted[(size_t)row * w.vocab + i] & ~COUNT_PROMPT; n; n--)
			sampler_count(sampler, i);
	sampler_pick(sampler, x, w.ids, w.rows.h[row].position, &room, &ret);
	sampler_free(sampler);
	return ret.token;
}

/* The CPU's sums and logarithms are double: where a token hangs on their last bits the two may differ, which
 * among these rows, always the same ones, none does. */
static void like_the_cpu(uint32_t vocab, uint32_t ids, uint32_t rounds)
{
	struct world w = { vocab, ids };
	struct sampling s[ROWS];
	struct token_bias bias[ROWS][2];
	std::vector<float> x((size_t)ROWS * vocab);
	uint32_t same = 0;

	set_up(&w);
	for (uint32_t round = 0; round < rounds; round++) {
		for (uint32_t r = 0; r < ROWS; r++) {
			any_params(r, &s[r], &w.params.h[r]);
			w.rows.h[r].position = rng();
			for (uint32_t i = 0; i < vocab; i++)
				x[(size_t)r * vocab + i] = any_logit((enum logits)((round + r) % N_LOGITS));
			if (r % 3 != 1)
				continue;
			/* the largest is forbidden, another one liked */
			const float *own = &x[(size_t)r * vocab];
			const uint32_t most = (uint32_t)(std::max_element(own, own + ids) - own);

			bias[r][0] = { most, -INFINITY };
			bias[r][1] = { (most + 1) % ids, 1.5f };
			s[r].bias = bias[r];
			s[r].n_bias = w.params.h[r].n_bias = 2;
			for (uint32_t i = 0; i < 2; i++)
				w.bias.h[(size_t)r * SAMPLE_MAX_BIAS + i] = { bias[r][i].id, bias[r][i].bias };
		}
		w.bias.up();
		w.params.up();
		w.rows.up();
		any_counts(&w);

		const std::vector<sample_out> o = w.run(x);

		for (uint32_t r = 0; r < ROWS; r++) {
			const uint32_t want = cpu_token(s[r], w, r, &x[(size_t)r * vocab]);

			same += o[r].token == want;
			if (o[r].token != want)
				printf("  round %u row %u: %u for the CPU's %u (T %g, top_k %u, top_p %g, min_p %g)\n",
				       round, r, o[r].token, want, s[r].temperature, s[r].top_k, s[r].top_p, s[r].min_p);
		}
	}
	printf("%u ids: %u of %u tokens are the CPU's\n", ids, same, ROWS * rounds);
	claim("tokens are those of the CPU back end", same == ROWS * rounds);
}

int main(int argc, char **argv)
{
	const bool few = asked(argc, argv, "--few");

	if (!have_gpu())
		return 77;
	sampled(5008, 4999, few);
	sampled(SAMPLE_MAX_VOCAB, SAMPLE_MAX_VOCAB - 3, few);	/* a segment is as long as it can be */
	largest_found(SAMPLE_MAX_VOCAB, SAMPLE_MAX_VOCAB - 3, few);
	like_the_cpu(5008, 4999, few ? 4 : 100);
	if (!few)
		like_the_cpu(SAMPLE_MAX_VOCAB, SAMPLE_MAX_VOCAB - 3, 12);
	return n_failed ? 1 : 0;
}
