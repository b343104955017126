/* gdn_prefill_test.cu - the prompt form of Gated DeltaNet against the recurrence in double, and the
 * exactness claims: cuts at the grid, neighbours and the form of the scan change no bit.
 *	gdn_prefill_test [--few] [--bench]
 * --few leaves out what a checking tool takes too long over; --bench prints tables of times.
 */
#include "kernels/cuda/gdn_prefill.cuh"

#include "tests/gpu/gpu_test.h"

using std::vector;
typedef gdn_prefill_run run_t;

static const int DIM = GDN_DIM;
/* What the rounding points of docs/numerics.md should cost, with a margin of two. */
static const double O_BOUND = 2e-3, STATE_BOUND = 1e-3;

struct problem {
	int kh, vh, rows, slots, channels, ld;
	array<__nv_bfloat16> u, w, window, norm, out; /* a row of u: q k v, z, b, a, up to a multiple of 8 */
	array<float> a_log, dt, state, o;

	problem(int kh_, int vh_, int rows_, int slots_)
		: kh(kh_), vh(vh_), rows(rows_), slots(slots_), channels((2 * kh_ + vh_) * DIM),
		  ld((channels + vh * (DIM + 2) + 7) / 8 * 8), u((size_t)rows * ld), w((size_t)channels * 4),
		  window((size_t)slots * 6 * channels), norm(DIM), out((size_t)rows * vh * DIM), a_log(vh), dt(vh),
		  state((size_t)slots * vh * DIM * DIM), o((size_t)rows * vh * DIM)
	{
		for (auto *x : { &u, &w, &window, &norm })
			for (auto &y : x->h)
				y = __float2bfloat16_rn(uniform());
		for (auto *x : { &a_log, &dt, &state })
			for (auto &y : x->h)
				y = uniform();
		for (auto &x : out.h)
			x = __float2bfloat16_rn(NAN);
		for (auto &x : o.h)
			x = NAN;
		up();
	}
	void up(void)
	{
		u.up(); w.up(); norm.up(); a_log.up(); dt.up();
		reset();
	}
	void reset(void) { window.up(); state.up(); o.up(); out.up(); }
	int z_at(int h) const { return channels + h * DIM; }
	int b_at(int h) const { return channels + vh * DIM + h; }
	int a_at(int h) const { return b_at(vh) + h; }
	double in(int row, int col) const { return (double)__bfloat162float(u.h[(size_t)row * ld + col]); }
	bool guarded(void) const { return window.guarded() && state.guarded() && o.guarded() && out.guarded(); }
};

/* The device's copies of one step's runs, chunks and room. */
struct step {
	vector<run_t> plan;
	vector<gdn_chunk> list;
	array<run_t> runs;
	array<gdn_chunk> chunks;
	array<unsigned char> room;

	step(const problem &p, const vector<run_t> &r)
		: plan(r), list(gdn_prefill_plan(plan.data(), (uint32_t)r.size(), NULL, 0)), runs(r.size()),
		  chunks(list.size()), room(gdn_prefill_room((uint32_t)p.kh, (uint32_t)p.vh, (uint32_t)list.size()))
	{
		gdn_prefill_plan(plan.data(), (uint32_t)r.size(), list.data(), (uint32_t)list.size());
		runs.h = plan;
		chunks.h = list;
		runs.up();
		chunks.up();
		CUDA(cudaMemset(room.d, 0xff, room.h.size()));	/* NaNs */
	}
	gdn_prefill_args args(const problem &p, gdn_scan_form form) const
	{
		gdn_prefill_args g = {};

		g.runs = runs.d;
		g.chunks = chunks.d;
		g.n_runs = (uint32_t)plan.size();
		g.n_chunks = (uint32_t)list.size();
		g.k_heads = (uint32_t)p.kh;
		g.v_heads = (uint32_t)p.vh;
		g.ld = (uint32_t)p.ld;
		g.u = p.u.d;
		g.a = p.u.d + p.a_at(0);
		g.b = p.u.d + p.b_at(0);
		g.z = p.u.d + p.z_at(0);
		g.conv_w = p.w.d;
		g.a_log = p.a_log.d;
		g.dt_bias = p.dt.d;
		g.window = p.window.d;
		g.state = p.state.d;
		g.norm_w = p.norm.d;
		g.eps = 1e-6f;
		g.room = room.d;
		g.o = p.o.d;
		g.out = p.out.d;
		g.form = form;
		return g;
	}
};

struct outcome {
	vector<float> o, state;
	vector<__nv_bfloat16> window, out;
};

static outcome take(problem &p)
{
	outcome r;

	CUDA(cudaDeviceSynchronize());
	r.o.resize(p.o.h.size());
	r.state.resize(p.state.h.size());
	r.window.resize(p.window.h.size());
	r.out.resize(p.out.h.size());
	CUDA(cudaMemcpy(r.o.data(), p.o.d, r.o.size() * 4, cudaMemcpyDeviceToHost));
	CUDA(cudaMemcpy(r.state.data(), p.state.d, r.state.size() * 4, cudaMemcpyDeviceToHost));
	CUDA(cudaMemcpy(r.window.data(), p.window.d, r.window.size() * 2, cudaMemcpyDeviceToHost));
	CUDA(cudaMemcpy(r.out.data(), p.out.d, r.out.size() * 2, cudaMemcpyDeviceToHost));
	return r;
}

static outcome launch(problem &p, const vector<vector<run_t>> &steps, gdn_scan_form form = GDN_SCAN_AUTO)
{
	p.reset();
	for (const auto &runs : steps) {
		step s(p, runs);
		gdn_prefill_args g = s.args(p, form);

		if (gdn_prefill(&g, nullptr) != 0)
			claim("launch", false);
		CUDA(cudaDeviceSynchronize());
		if (!s.room.guarded())
			claim("room_is_kept_to", false);
	}
	return take(p);
}

/* The recurrence as docs/numerics.md has it, in double but for the convolution's rounding. */
static void reference(const problem &p, const run_t &run, vector<double> &o, vector<double> &S)
{
	const int Ch = p.channels;
	const __nv_bfloat16 *win = &p.window.h[((size_t)run.slot * 2 + run.side) * 3 * Ch];
	vector<double> x((size_t)run.n * Ch);

	for (int t = 0; t < (int)run.n; t++)
		for (int ch = 0; ch < Ch; ch++) {
			double s = 0;

			for (int j = 0; j < 4; j++) {
				int from = t - 3 + j;
				s += (double)__bfloat162float(p.w.h[(size_t)ch * 4 + j]) *
				     (from >= 0 ? p.in((int)run.row + from, ch)
						: (double)__bfloat162float(win[(size_t)(from + 3) * Ch + ch]));
			}
			x[(size_t)t * Ch + ch] = (double)to_bf16((float)(s / (1 + std::exp(-s))));
		}
	S.assign(p.state.h.begin() + (size_t)run.slot * p.vh * DIM * DIM,
		 p.state.h.begin() + (size_t)(run.slot + 1) * p.vh * DIM * DIM);
	o.assign((size_t)run.n * p.vh * DIM, 0);
	for (uint32_t t = 0; t < run.n; t++) {
		for (int h = 0; h < p.vh; h++) {
			const int kh = h / (p.vh / p.kh), row = (int)(run.row + t);
			const double *at = &x[(size_t)t * Ch];
			double q[GDN_DIM], k[GDN_DIM], qq = 0, kk = 0;
			double y = p.in(row, p.a_at(h)) + (double)p.dt.h[h];
			double alpha = std::exp(-std::exp((double)p.a_log.h[h]) * (y > 20 ? y : std::log1p(std::exp(y))));
			double beta = 1 / (1 + std::exp(-p.in(row, p.b_at(h))));

			for (int d = 0; d < DIM; d++) {
				q[d] = at[kh * DIM + d];
				k[d] = at[(p.kh + kh) * DIM + d];
				qq += q[d] * q[d];
				kk += k[d] * k[d];
			}
			for (int d = 0; d < DIM; d++) {
				q[d] *= 1 / std::sqrt(qq + 1e-6) / std::sqrt(128.0);
				k[d] *= 1 / std::sqrt(kk + 1e-6);
			}
			for (int v = 0; v < DIM; v++) {
				double *s = &S[((size_t)h * DIM + v) * DIM], m = 0, out = 0;

				for (int d = 0; d < DIM; d++)
					m += (s[d] *= alpha) * k[d];
				m = beta * (at[(2 * p.kh + h) * DIM + v] - m);
				for (int d = 0; d < DIM; d++)
					out += (s[d] += m * k[d]) * q[d];
				o[((size_t)t * p.vh + h) * DIM + v] = out;
			}
		}
	}
}

/* Of the kernel's own o, so that only the norm's rounding is judged. */
static bool normed(const problem &p, const outcome &r, int row)
{
	bool ok = true;

	for (int h = 0; h < p.vh; h++) {
		const size_t at = ((size_t)row * p.vh + h) * DIM;
		double sum = 0;

		for (int d = 0; d < DIM; d++)
			sum += (double)r.o[at + d] * (double)r.o[at + d];
		for (int d = 0; d < DIM; d++) {
			double z = p.in(row, p.z_at(h) + d), got = (double)__bfloat162float(r.out[at + d]);
			double want = (double)__bfloat162float(p.norm.h[d]) * (double)r.o[at + d] /
				      std::sqrt(sum / DIM + 1e-6) * z / (1 + std::exp(-z));

			ok = ok && std::fabs(want - got) <= std::fabs(want) * (1.0 / 256 + 1e-5) + 1e-30;
		}
	}
	return ok;
}

/* The last three inputs, bit for bit; short runs keep some of the old window. */
static bool window_follows(const problem &p, const outcome &r, const run_t &run)
{
	const size_t slot = (size_t)run.slot * 6 * p.channels, side = (size_t)3 * p.channels;
	bool ok = true;

	for (int j = 0; j < 3; j++)
		for (int ch = 0; ch < p.channels; ch++) {
			const int t = (int)run.n - 3 + j;
			const __nv_bfloat16 want = t >= 0 ? p.u.h[(size_t)(run.row + t) * p.ld + ch]
							  : p.window.h[slot + run.side * side + (size_t)(t + 3) * p.channels + ch];

			ok = ok && !memcmp(&want, &r.window[slot + (1 - run.side) * side + (size_t)j * p.channels + ch], 2);
		}
	return ok;
}

static bool follows(const problem &p, const outcome &r, const run_t &run, const char *what)
{
	vector<double> o, S;
	double eo, es;
	bool ok;

	reference(p, run, o, S);
	eo = relative_error(o, &r.o[(size_t)run.row * p.vh * DIM]);
	es = relative_error(S, &r.state[(size_t)run.slot * p.vh * DIM * DIM]);
	printf("  %s, heads %d/%d, %u rows: relative error o %.2e, state %.2e\n", what, p.kh, p.vh, run.n, eo, es);
	ok = eo < O_BOUND && es < STATE_BOUND && window_follows(p, r, run);
	for (uint32_t t = 0; t < run.n; t++)
		ok = ok && normed(p, r, (int)(run.row + t));
	return ok;
}

/* Rows that no run names keep the poison. */
static bool untouched(const problem &p, const outcome &r, const vector<run_t> &runs)
{
	vector<bool> named((size_t)p.rows);
	const size_t width = (size_t)p.vh * DIM;
	bool ok = p.guarded();

	for (const auto &run : runs)
		for (uint32_t t = 0; t < run.n; t++)
			named[run.row + t] = true;
	for (size_t row = 0; row < (size_t)p.rows; row++)
		for (size_t i = row * width; i < (row + 1) * width && !named[row]; i++)
			ok = ok && !memcmp(&r.o[i], &p.o.h[i], 4) && !memcmp(&r.out[i], &p.out.h[i], 2);
	return ok;
}

static void against_reference(int kh, int vh, const vector<uint32_t> &lengths)
{
	const uint32_t n_runs = (uint32_t)lengths.size();
	uint32_t rows = 1;
	vector<run_t> runs;
	bool ok = true;
	char name[128];

	for (uint32_t i = 0; i < n_runs; i++) {
		runs.push_back({ n_runs - i, rows, lengths[i], i % 2, 0 });
		rows += lengths[i] + i % 3;
	}
	problem p(kh, vh, (int)rows + 2, (int)n_runs + 2);
	outcome r = launch(p, { runs });
	for (const auto &run : runs)
		ok = follows(p, r, run, "random") && ok;
	snprintf(name, sizeof(name), "heads_%d_%d_follow_the_recurrence", kh, vh);
	claim(name, ok);
	snprintf(name, sizeof(name), "heads_%d_%d_write_nothing_else", kh, vh);
	ok = untouched(p, r, runs);
	for (uint32_t slot : { 0u, n_runs + 1 })
		ok = ok && !memcmp(&r.state[(size_t)slot * vh * DIM * DIM], &p.state.h[(size_t)slot * vh * DIM * DIM],
				   (size_t)vh * DIM * DIM * 4);
	claim(name, ok);
}

static void fill_columns(problem &p, int from, int n, float value)
{
	for (int row = 0; row < p.rows; row++)
		for (int c = from; c < from + n; c++)
			p.u.h[(size_t)row * p.ld + c] = __float2bfloat16_rn(value);
}

/* Nothing fades, one key again and again, beta near 1: A is all ones, the worst-conditioned triangle. */
static void one_key(void)
{
	problem p(1, 2, 200, 1);
	const run_t run = { 0, 0, 200, 0, 0 };

	for (int row = 0; row < p.rows; row++)
		memcpy(&p.u.h[(size_t)row * p.ld], &p.u.h[0], (size_t)2 * DIM * 2);
	fill_columns(p, p.b_at(0), 2, 6);
	fill_columns(p, p.a_at(0), 2, -6);
	for (auto &x : p.a_log.h)
		x = -8;
	p.up();
	claim("one_key_again_and_again", follows(p, launch(p, { { run } }), run, "one key"));
}

/* exp(G) underflows inside a chunk; the factors come from differences only. */
static void strong_decay(void)
{
	problem p(1, 2, 200, 1);
	const run_t run = { 0, 0, 200, 0, 0 };

	for (auto &x : p.a_log.h)
		x = 4;
	p.up();
	claim("a_state_may_fade_within_a_row", follows(p, launch(p, { { run } }), run, "fading"));
}

/* Value dimensions far from 1, each judged by itself: fp16 must not show. */
static void far_from_one(float exponent)
{
	problem p(2, 4, 150, 1);
	const run_t run = { 0, 0, 150, 1, 0 };
	double worst_o = 0, worst_state = 0;
	vector<double> o, S;
	char name[64];

	for (int v = 0; v < p.vh * DIM; v += 3) {
		for (int j = 0; j < 4; j++) {
			auto &w = p.w.h[(size_t)(2 * p.kh * DIM + v) * 4 + j];
			w = __float2bfloat16_rn(std::exp2(exponent) * std::fabs(__bfloat162float(w)));
		}
		for (int k = 0; k < DIM; k++)
			p.state.h[(size_t)v * DIM + k] *= std::exp2(exponent);
	}
	/* little decay: what fades within a chunk is known to 2^-24 of what was there at its start, not of itself */
	for (auto &x : p.a_log.h)
		x = -4;
	p.up();
	outcome r = launch(p, { { run } });
	reference(p, run, o, S);
	for (int v = 0; v < p.vh * DIM; v++) {
		vector<double> want, row(S.begin() + (size_t)v * DIM, S.begin() + (size_t)(v + 1) * DIM);
		vector<float> got;

		for (uint32_t t = 0; t < run.n; t++) {
			want.push_back(o[(size_t)t * p.vh * DIM + v]);
			got.push_back(r.o[(size_t)t * p.vh * DIM + v]);
		}
		worst_o = std::max(worst_o, relative_error(want, got.data()));
		worst_state = std::max(worst_state, relative_error(row, &r.state[(size_t)v * DIM]));
	}
	printf("  values by 2^%g: worst dimension's relative error o %.2e, state %.2e\n", exponent, worst_o, worst_state);
	snprintf(name, sizeof(name), "values_by_two_to_the_%g_keep_their_precision", exponent);
	claim(name, worst_o < 3 * O_BOUND && worst_state < 3 * STATE_BOUND);
}

static bool same_rows(const problem &p, const outcome &x, const outcome &y, uint32_t row, uint32_t n)
{
	const size_t at = (size_t)row * p.vh * DIM, count = (size_t)n * p.vh * DIM;

	return !memcmp(&x.o[at], &y.o[at], count * 4) && !memcmp(&x.out[at], &y.out[at], count * 2);
}

static bool same_slot(const problem &p, const outcome &x, const outcome &y, uint32_t slot, uint32_t x_side, uint32_t y_side)
{
	const size_t n = (size_t)p.vh * DIM * DIM, c = (size_t)3 * p.channels;

	return !memcmp(&x.state[slot * n], &y.state[slot * n], n * 4) &&
	       !memcmp(&x.window[(slot * 2 + x_side) * c], &y.window[(slot * 2 + y_side) * c], c * 2);
}

/* The prompt in steps of the given numbers of chunks, the last one takes the rest; neighbours in every second. */
static vector<vector<run_t>> cut(uint32_t row, uint32_t n, const vector<uint32_t> &chunks)
{
	vector<vector<run_t>> steps;
	uint32_t done = 0, k = 0;

	while (done < n) {
		uint32_t part = k < chunks.size() ? std::min(n - done, chunks[k] * 64) : n - done;
		vector<run_t> runs = { { 3, row + done, part, k % 2, 0 } };

		if (k % 2)
			runs = { { 5, 0, 70, 0, 0 }, runs[0], { 1, 100, 128, 1, 0 }, { 0, 70, 2, 1, 0 } };
		steps.push_back(runs);
		done += part;
		k++;
	}
	return steps;
}

static void exactness(void)
{
	const uint32_t ROW = 230, N = 64 * 6 + 9;
	problem p(2, 6, (int)(ROW + N), 6);
	/* a row of the state far down and one far up: the factors, too, must not see the cut */
	for (int k = 0; k < DIM; k++) {
		p.state.h[((size_t)3 * p.vh * DIM + 5) * DIM + k] *= 1e-30f;
		p.state.h[((size_t)3 * p.vh * DIM + 40) * DIM + k] *= 1e6f;
	}
	p.up();
	const outcome whole = launch(p, cut(ROW, N, {}));
	const vector<vector<uint32_t>> cuts = { { 1, 1, 1, 1, 1, 1 }, { 3 }, { 2, 1, 3 }, { 6 }, { 1, 5 } };
	bool ok = true;

	for (const auto &c : cuts) {
		const auto steps = cut(ROW, N, c);
		const outcome r = launch(p, steps);

		ok = ok && same_rows(p, whole, r, ROW, N) && same_slot(p, whole, r, 3, 1, steps.size() % 2);
	}
	claim("cuts_at_the_grid_and_neighbours_change_no_bit", ok);
	ok = true;
	cudaDeviceProp prop;
	CUDA(cudaGetDeviceProperties(&prop, 0));
	for (gdn_scan_form form : { GDN_SCAN_APART, GDN_SCAN_TOGETHER }) {
		if (form != GDN_SCAN_APART && prop.major != 9)
			continue;
		const outcome r = launch(p, cut(ROW, N, { 2, 2 }), form);

		ok = ok && same_rows(p, whole, r, ROW, N) && same_slot(p, whole, r, 3, 1, 1);
	}
	claim("the_form_of_the_scan_changes_no_bit", ok);
	ok = true;
	for (int i = 0; i < 5; i++) {
		const outcome r = launch(p, cut(ROW, N, {}));

		ok = ok && same_rows(p, whole, r, ROW, N) && same_slot(p, whole, r, 3, 1, 1);
	}
	claim("again_is_the_same", ok);
}

/* A prompt and then answers: the decode kernel takes up state and window where the prompt left them. */
static void decode_continues(void)
{
	const run_t prompt = { 1, 2, 99, 1, 0 };
	problem p(2, 4, 110, 3);
	array<gdn_kept> kept((size_t)3 * 4);
	outcome r;
	run_t all = prompt;
	array<gdn_run> runs(1);
	gdn_step_args g = {};

	launch(p, { { prompt } });
	runs.h[0] = { 1, 101, 5, 0, 99 % GDN_PERIOD, 0 };	/* to the end of a period: positions 99 to 103 */
	runs.up();
	g = { runs.d, 1, (uint32_t)p.kh, (uint32_t)p.vh, (uint32_t)p.ld, p.u.d, p.u.d + p.a_at(0), p.u.d + p.b_at(0),
	      p.u.d + p.z_at(0), p.w.d, p.a_log.d, p.dt.d, p.window.d, p.state.d, kept.d, p.norm.d, 1e-6f, p.o.d, p.out.d };
	claim("decode_is_launched", gdn_step(&g, nullptr) == 0);
	r = take(p);
	all.n += 5;
	all.side = 1;
	vector<double> o, S;
	reference(p, all, o, S);
	const double eo = relative_error(o, &r.o[(size_t)all.row * p.vh * DIM]);
	const double es = relative_error(S, &r.state[(size_t)all.slot * p.vh * DIM * DIM]);
	printf("  99 rows of prompt, 5 of answer: relative error o %.2e, state %.2e\n", eo, es);
	claim("decode_continues_the_prompt", eo < O_BOUND && es < STATE_BOUND);
}

static void refuses(void)
{
	problem p(2, 4, 64, 1);
	step s(p, { { 0, 0, 64, 0, 0 } });
	const gdn_prefill_args good = s.args(p, GDN_SCAN_AUTO);
	bool ok = true;

	for (int i = 0; i < 8; i++) {
		gdn_prefill_args g = good;

		switch (i) {
		case 0: g.n_runs = 0; break;
		case 1: g.v_heads = 5; break;
		case 2: g.v_heads = 10; break;
		case 3: g.ld++; break;
		case 4: g.ld = (uint32_t)p.channels - 8; break;
		case 5: g.u = (const char *)g.u + 2; break;
		case 6: g.room = (char *)g.room + 16; break;
		case 7: g.n_chunks = 0; break;
		}
		ok = ok && gdn_prefill(&g, nullptr) < 0;
	}
	claim("odd_shapes_are_refused", ok);

	run_t runs[2] = { { 0, 0, 129, 0, 9 }, { 1, 129, 64, 0, 9 } };
	gdn_chunk list[4] = { { 7, 7 }, { 7, 7 }, { 7, 7 }, { 7, 7 } };
	ok = gdn_prefill_plan(runs, 2, list, 3) == 4 && runs[1].first_chunk == 3 && list[2].index == 2 && list[3].run == 7;
	ok = ok && gdn_prefill_plan(runs, 2, list, 4) == 4 && list[3].run == 1 && list[3].index == 0;
	claim("a_plan_lists_the_chunks_and_keeps_to_its_room", ok);
}

static void bench_one(int kh, int vh, uint32_t n_runs, uint32_t n)
{
	problem p(kh, vh, (int)(n_runs * n), (int)n_runs);
	vector<run_t> runs;

	for (uint32_t i = 0; i < n_runs; i++)
		runs.push_back({ i, i * n, n, 0, 0 });
	step s(p, runs);
	gdn_prefill_args g[3];
	for (int f = 0; f < 3; f++) {
		g[f] = s.args(p, (gdn_scan_form)f);
		g[f].o = NULL;
	}
	const int times = 20;
	const double convolve = graph_ms(times, [&](cudaStream_t st) { for (int i = 0; i < 4; i++) gdn::convolve(&g[0], st); }) / 4;
	const double prepare = graph_ms(times, [&](cudaStream_t st) { for (int i = 0; i < 4; i++) gdn::prepare(&g[0], st); }) / 4;
	double scan[3], both;

	for (int f = 0; f < 3; f++)	/* f = 2 needs a chip that has it; elsewhere nothing is enqueued */
		scan[f] = graph_ms(times, [&](cudaStream_t st) { for (int i = 0; i < 4; i++) gdn::scan(&g[f], st); }) / 4;
	both = graph_ms(times, [&](cudaStream_t st) { for (int i = 0; i < 4; i++) gdn_prefill(&g[0], st); }) / 4;
	printf("| %d/%d | %u x %u | %.1f | %.1f | %.1f | %.1f | %.1f | %.2f |\n", kh, vh, n_runs, n, 1e3 * convolve, 1e3 * prepare,
	       1e3 * scan[1], 1e3 * scan[2], 1e3 * both, (double)n_runs * n / both / 1e3);
}

static void bench(void)
{
	copy_roof();
	printf("| heads | runs x rows | convolve us | prepare | scan apart | together | all, as the host chooses | M tok/s a layer |\n"
	       "|---|--:|--:|--:|--:|--:|--:|--:|\n");
	bench_one(16, 32, 1, 8192);
	bench_one(16, 32, 1, 2048);
	bench_one(16, 32, 1, 256);
	bench_one(16, 32, 4, 2048);
	bench_one(16, 32, 32, 256);
	bench_one(16, 32, 128, 64);
	bench_one(16, 48, 1, 8192);
	bench_one(16, 48, 16, 512);
}

int main(int argc, char **argv)
{
	bool few = false, times = false;

	for (int i = 1; i < argc; i++) {
		few = few || !strcmp(argv[i], "--few");
		times = times || !strcmp(argv[i], "--bench");
	}
	if (!have_gpu())
		return 77;
	against_reference(2, 4, { 145, 1, 64, 2, 200 });
	against_reference(1, 3, { 65, 63, 3 });
	if (!few) {
		against_reference(16, 32, { 130, 64 });
		against_reference(16, 48, { 77 });
		against_reference(1, 1, { 1000, 9 });
		against_reference(1, 4, { 190 });
		one_key();
		strong_decay();
		for (float e : { -24.0f, -12.0f, 12.0f, 24.0f })
			far_from_one(e);
	}
	exactness();
	decode_continues();
	refuses();
	if (times)
		bench();
	return n_failed ? 1 : 0;
}
