/* sample_test.cu - a logit that is no number is found, in its row only, whatever the row's parameters; and rows of
 * numbers are sampled as if nobody looked.  Exits 77 without a GPU; --few: fewer places, for the sanitizers. */
#include "kernels/cuda/sample.h"
#include "tests/gpu/gpu_test.h"

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

	/* Samples all rows; penalties' counts begin at 0 each time. */
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

int main(int argc, char **argv)
{
	const bool few = asked(argc, argv, "--few");

	if (!have_gpu())
		return 77;
	sampled(5008, 4999, few);
	sampled(SAMPLE_MAX_VOCAB, SAMPLE_MAX_VOCAB - 3, few);	/* a segment is as long as it can be */
	largest_found(SAMPLE_MAX_VOCAB, SAMPLE_MAX_VOCAB - 3, few);
	return n_failed ? 1 : 0;
}
