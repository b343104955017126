/* gdn_step_test.cu - the Gated DeltaNet decode kernel against a reference in double, and the
 * exactness claims: a run of n rows equals n runs of one row, and neighbours change no bit.
 * Prints claims like cmocka does; exits 77 without a GPU.
 *	gdn_step_test [--bench | --few]   instead a markdown table of times; fewer rows, for the sanitizers
 */
#include "kernels/cuda/gdn_step.h"

#include "kernels/cuda/prefill_matmul.h"
#include "tests/gpu/gpu_test.h"

static const int DIM = GDN_DIM;

struct problem {
	int kh, vh, rows, slots, channels, ld, ordered = 0;
	array<__nv_bfloat16> u, w, window, norm, out;	/* a row of u: q k v, z, b, a */
	array<float> a_log, dt, state, o;
	array<gdn_kept> kept;

	problem(int kh_, int vh_, int rows_, int slots_)
		: kh(kh_), vh(vh_), rows(rows_), slots(slots_), channels((2 * kh_ + vh_) * DIM),
		  ld(channels + vh * (DIM + 2)), u((size_t)rows * ld), w((size_t)channels * 4),
		  window((size_t)slots * 6 * channels), norm(DIM), out((size_t)rows * vh * DIM), a_log(vh), dt(vh),
		  state((size_t)slots * vh * DIM * DIM), o((size_t)rows * vh * DIM), kept((size_t)slots * vh)
	{
		for (auto *x : { &u, &w, &window, &norm, &out })
			for (auto &y : x->h)
				y = __float2bfloat16_rn(uniform());
		for (auto &x : a_log.h)
			x = uniform();
		for (auto &x : dt.h)
			x = uniform();
		for (auto &x : state.h)
			x = uniform();
		for (auto &x : o.h)
			x = NAN;
		for (auto &x : kept.h) {
			for (int e = 0; e < GDN_KEPT; e++) {
				for (int d = 0; d < DIM; d++) {
					x.key[e][d] = 0.1f * uniform();
					x.delta[e][d] = uniform();
				}
				x.decay[e] = 0.75f + 0.25f * uniform();
			}
			x.decay[GDN_KEPT] = NAN;
		}
		u.up(); w.up(); norm.up(); out.up(); a_log.up(); dt.up();
		reset();
	}
	void reset(void) { window.up(); state.up(); o.up(); kept.up(); }
	gdn_step_args args(const gdn_run *runs, uint32_t n)
	{
		gdn_step_args g = { runs, n, (uint32_t)kh, (uint32_t)vh, (uint32_t)ld, u.d, u.d + a_at(0),
				    u.d + b_at(0), u.d + channels, w.d, a_log.d, dt.d, window.d, state.d, kept.d, norm.d,
				    1e-6f, o.d, out.d, ordered };
		return g;
	}
	int z_at(int h) const { return channels + h * DIM; }
	int b_at(int h) const { return channels + vh * DIM + h; }
	int a_at(int h) const { return b_at(vh) + h; }
	double in(int row, int col) const { return (double)__bfloat162float(u.h[(size_t)row * ld + col]); }
};

struct outcome {
	std::vector<float> o, state;
	std::vector<gdn_kept> kept;
	std::vector<__nv_bfloat16> window, out;
};

static bool same_kept(const gdn_kept *x, const gdn_kept *y, size_t n)
{
	return !memcmp(x, y, n * sizeof(*x));
}

/* A state with the tokens in it that are kept beside it, those of the places end - n to end - 1. */
static std::vector<double> settled(const float *state, const gdn_kept *kept, int heads, uint32_t end, uint32_t n)
{
	std::vector<double> S(state, state + (size_t)heads * DIM * DIM);

	for (int h = 0; h < heads; h++)
		for (uint32_t e = end - n; e < end; e++)
			for (int v = 0; v < DIM; v++)
				for (int d = 0; d < DIM; d++) {
					double &x = S[((size_t)h * DIM + v) * DIM + d];

					x = x * (double)kept[h].decay[e] +
					    (double)kept[h].delta[e][v] * (double)kept[h].key[e][d];
				}
	return S;
}

static outcome launch(problem &p, const std::vector<std::vector<gdn_run>> &steps)
{
	outcome r;

	p.reset();
	for (const auto &runs : steps) {
		array<gdn_run> d(runs.size());
		d.h = runs;
		d.up();
		gdn_step_args g = p.args(d.d, (uint32_t)runs.size());
		if (gdn_step(&g, nullptr) != 0)
			claim("launch", false);
		CUDA(cudaDeviceSynchronize());
	}
	r.o.resize(p.o.h.size());
	r.state.resize(p.state.h.size());
	r.kept.resize(p.kept.h.size());
	r.window.resize(p.window.h.size());
	r.out.resize(p.out.h.size());
	CUDA(cudaMemcpy(r.out.data(), p.out.d, r.out.size() * 2, cudaMemcpyDeviceToHost));
	CUDA(cudaMemcpy(r.o.data(), p.o.d, r.o.size() * 4, cudaMemcpyDeviceToHost));
	CUDA(cudaMemcpy(r.state.data(), p.state.d, r.state.size() * 4, cudaMemcpyDeviceToHost));
	CUDA(cudaMemcpy(r.kept.data(), p.kept.d, r.kept.size() * sizeof(gdn_kept), cudaMemcpyDeviceToHost));
	CUDA(cudaMemcpy(r.window.data(), p.window.d, r.window.size() * 2, cudaMemcpyDeviceToHost));
	return r;
}

/* The recurrence as docs/numerics.md has it, in double but for the stated roundings. */
static void reference(const problem &p, const gdn_run &run, std::vector<double> &o, std::vector<double> &S)
{
	const int C = p.channels;
	const __nv_bfloat16 *win = &p.window.h[((size_t)run.slot * 2 + run.side) * 3 * C];
	auto in = [&](int t, int ch) {
		return t >= 0 ? p.in((int)run.row + t, ch)
			      : (double)__bfloat162float(win[(size_t)(t + 3) * C + ch]);
	};
	auto conv = [&](int t, int ch) {
		double s = 0;
		for (int j = 0; j < 4; j++)
			s += (double)__bfloat162float(p.w.h[(size_t)ch * 4 + j]) * in(t - 3 + j, ch);
		return (double)to_bf16((float)(s / (1 + std::exp(-s))));
	};
	S = settled(&p.state.h[(size_t)run.slot * p.vh * DIM * DIM], &p.kept.h[(size_t)run.slot * p.vh], p.vh, run.phase,
		    run.kept);
	o.assign((size_t)run.n * p.vh * DIM, 0);
	for (uint32_t t = 0; t < run.n; t++) {
		for (int h = 0; h < p.vh; h++) {
			int kh = h / (p.vh / p.kh);
			double q[GDN_DIM], k[GDN_DIM], qq = 0, kk = 0;
			double x = p.in((int)(run.row + t), p.a_at(h)) + (double)p.dt.h[h];
			double g = -std::exp((double)p.a_log.h[h]) * (x > 20 ? x : std::log1p(std::exp(x)));
			double beta = 1 / (1 + std::exp(-p.in((int)(run.row + t), p.b_at(h))));
			for (int d = 0; d < DIM; d++) {
				q[d] = conv(t, kh * DIM + d);
				k[d] = conv(t, (p.kh + kh) * DIM + d);
				qq += q[d] * q[d];
				kk += k[d] * k[d];
			}
			for (int d = 0; d < DIM; d++) {
				q[d] *= 1 / std::sqrt(qq + 1e-6) / std::sqrt(128.0);
				k[d] *= 1 / std::sqrt(kk + 1e-6);
			}
			for (int v = 0; v < DIM; v++) {
				double *row = &S[((size_t)h * DIM + v) * DIM], m = 0, out = 0;
				for (int d = 0; d < DIM; d++)
					m += (row[d] *= std::exp(g)) * k[d];
				double delta = beta * (conv(t, (2 * p.kh + h) * DIM + v) - m);
				for (int d = 0; d < DIM; d++)
					out += (row[d] += delta * k[d]) * q[d];
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

static void against_reference(int kh, int vh)
{
	problem p(kh, vh, 30, 6);
	/* nothing kept; over a period's end with some kept; to its end exactly; and far beyond it */
	std::vector<gdn_run> runs = { { 2, 0, 1, 0, 0, 0 }, { 0, 1, 5, 1, 6, 4 }, { 1, 6, 3, 0, 5, 5 },
				      { 3, 9, 1, 1, 3, 2 }, { 4, 10, 1, 0, 7, 7 }, { 5, 11, 19, 0, 3, 1 } };
	outcome r = launch(p, { runs });
	bool ok = true;
	char name[128];

	for (const auto &run : runs) {
		const uint32_t end = (run.phase + run.n) % GDN_PERIOD;
		const size_t head = (size_t)run.slot * vh;
		std::vector<double> o, S;
		std::vector<float> got;
		double eo, es;

		reference(p, run, o, S);
		for (double x : settled(&r.state[head * DIM * DIM], &r.kept[head], vh, end,
					gdn_kept_after(run.kept, run.phase, run.n)))
			got.push_back((float)x);
		eo = relative_error(o, &r.o[(size_t)run.row * vh * DIM]);
		es = relative_error(S, got.data());
		printf("  heads %d/%d run of %u from %u with %u kept: relative error o %.2e, state %.2e\n", kh, vh, run.n,
		       run.phase, run.kept, eo, es);
		/* the reference rounds the convolution from double: where float32 lies on the other side of
		 * a bf16 border one input of 128 moves by 2^-9 */
		ok = ok && eo < 2e-3 && es < 2e-4;
		for (uint32_t t = 0; t < run.n; t++)
			ok = ok && normed(p, r, (int)(run.row + t));
	}
	snprintf(name, sizeof(name), "heads_%d_%d_follow_the_recurrence", kh, vh);
	claim(name, ok);
}

static bool same_slot(const problem &p, const outcome &x, const outcome &y, int slot, int side)
{
	size_t n = (size_t)p.vh * DIM * DIM, c = (size_t)3 * p.channels;

	return !memcmp(&x.state[slot * n], &y.state[slot * n], n * 4) &&
	       same_kept(&x.kept[(size_t)slot * p.vh], &y.kept[(size_t)slot * p.vh], (size_t)p.vh) &&
	       !memcmp(&x.window[(slot * 2 + side) * c], &y.window[(slot * 2 + side) * c], c * 2);
}

/* n rows from place `phase` on with `kept` tokens beside the state, at once and one by one. */
static bool rows_same(problem &p, uint32_t n, uint32_t phase, uint32_t kept, outcome *ret)
{
	const gdn_run all = { 3, 8, n, 0, phase, kept };
	const size_t from = (size_t)all.row * p.vh * DIM, len = (size_t)n * p.vh * DIM, C = (size_t)3 * p.channels;
	const size_t S = (size_t)3 * p.vh * DIM * DIM;
	std::vector<std::vector<gdn_run>> single;

	for (uint32_t t = 0; t < n; t++)
		single.push_back({ { 3, 8 + t, 1, t % 2, (phase + t) % GDN_PERIOD, gdn_kept_after(kept, phase, t) } });
	*ret = launch(p, { { all } });

	const outcome one = launch(p, single);

	return !memcmp(&ret->o[from], &one.o[from], len * 4) && !memcmp(&ret->out[from], &one.out[from], len * 2) &&
	       !memcmp(&ret->state[S], &one.state[S], (size_t)p.vh * DIM * DIM * 4) &&
	       same_kept(&ret->kept[(size_t)3 * p.vh], &one.kept[(size_t)3 * p.vh], (size_t)p.vh) &&
	       !memcmp(&ret->window[(3 * 2 + 1) * C], &one.window[(3 * 2 + n % 2) * C], C * 2);
}

/* One run of so many heads that two blocks have one each; beside another run a block has a head. */
static void two_blocks_a_head(int kh, int vh, bool few)
{
	problem p(kh, vh, 32, 4);
	outcome whole;
	bool ok = true;
	char name[128];

	for (uint32_t phase : { 0u, 6u, 7u })
		for (uint32_t rows : { 3u, 19u })
			ok = ok && ((few && (rows > 3 || phase != 6)) || rows_same(p, rows, phase, phase, &whole));
	ok = ok && rows_same(p, 3, 6, 6, &whole);

	const outcome beside = launch(p, { { { 3, 8, 3, 0, 6, 6 }, { 0, 0, 1, 0, 0, 0 } } });

	ok = ok && same_slot(p, whole, beside, 3, 1) &&
	     !memcmp(&whole.out[(size_t)8 * p.vh * DIM], &beside.out[(size_t)8 * p.vh * DIM], (size_t)3 * p.vh * DIM * 2);
	snprintf(name, sizeof(name), "a_run_of_%d_heads_equals_runs_of_one_row", vh);
	claim(name, ok);
}

static void exactness(int kh, int vh, bool few)
{
	const uint32_t N = 8;
	problem p(kh, vh, 64, 20);
	const size_t from = (size_t)8 * p.vh * DIM, n = (size_t)N * p.vh * DIM;
	std::vector<std::vector<gdn_run>> crowd;
	outcome whole;
	bool ok = true;

	for (uint32_t phase = 0; phase < GDN_PERIOD; phase += few ? 3 : 1)
		for (uint32_t kept = 0; kept <= phase; kept += few ? 3 : 1)
			for (uint32_t rows : { 2u, 19u })
				ok = ok && ((few && rows > 2 && kept < phase) || rows_same(p, rows, phase, kept, &whole));
	claim("a_run_of_n_rows_equals_n_runs_of_one", ok);
	rows_same(p, N, 5, 3, &whole);
	crowd.push_back({ { 9, 0, 2, 0, 1, 0 }, { 4, 2, 1, 1, 7, 6 }, { 3, 8, N, 0, 5, 3 }, { 0, 16, 16, 0, 0, 0 },
			  { 7, 40, 1, 1, 4, 4 } });
	outcome many = launch(p, crowd);
	claim("neighbours_change_no_bit",
	      !memcmp(&whole.o[from], &many.o[from], n * 4) && !memcmp(&whole.out[from], &many.out[from], n * 2) &&
		      same_slot(p, whole, many, 3, 1));
	outcome again = launch(p, crowd);
	claim("twice_is_the_same", !memcmp(many.o.data(), again.o.data(), many.o.size() * 4));
}

/* Each number of rows has its form (gdn_step.cu): those of one row, of few and of many. */
static void many_rows(int kh, int vh, uint32_t rows)
{
	problem p(kh, vh, (int)rows, (int)rows);
	std::vector<std::vector<gdn_run>> together(1), single;
	char name[128];

	for (uint32_t i = 0; i < rows; i++) {
		together[0].push_back({ (i * 7 + 3) % rows, i, 1, i % 2, i % GDN_PERIOD, i % (i % GDN_PERIOD + 1) });
		single.push_back({ together[0].back() });
	}
	outcome all = launch(p, together), one = launch(p, single);
	snprintf(name, sizeof(name), "%u_rows_of_%d_heads_equal_rows_alone", rows, vh);
	claim(name, !memcmp(all.o.data(), one.o.data(), all.o.size() * 4) &&
			    !memcmp(all.out.data(), one.out.data(), all.out.size() * 2) &&
			    !memcmp(all.state.data(), one.state.data(), all.state.size() * 4) &&
			    same_kept(all.kept.data(), one.kept.data(), all.kept.size()) &&
			    !memcmp(all.window.data(), one.window.data(), all.window.size() * 2));
}

/* The form of many runs with runs of several rows, which other threads' channels go through as well. */
static void many_runs(int kh, int vh)
{
	const uint32_t n_runs = 26, most = 5, longest = 19;
	problem p(kh, vh, (int)(n_runs * most + longest), (int)n_runs);
	std::vector<std::vector<gdn_run>> together(1), single;

	for (uint32_t i = 0; i < n_runs; i++) {
		together[0].push_back({ (i * 7 + 3) % n_runs, i * most,
					i + 1 == n_runs ? longest : 1 + i % most, i % 2, i % GDN_PERIOD,
					i % (i % GDN_PERIOD + 1) });
		single.push_back({ together[0].back() });
	}
	const outcome all = launch(p, together), one = launch(p, single);

	claim("runs_of_several_rows_among_many_equal_runs_alone",
	      !memcmp(all.o.data(), one.o.data(), all.o.size() * 4) &&
		      !memcmp(all.out.data(), one.out.data(), all.out.size() * 2) &&
		      !memcmp(all.state.data(), one.state.data(), all.state.size() * 4) &&
		      same_kept(all.kept.data(), one.kept.data(), all.kept.size()) &&
		      !memcmp(all.window.data(), one.window.data(), all.window.size() * 2));
}

/* The same values in the order of steps, of one run (several blocks a head) and of more. */
static void in_order(int kh, int vh)
{
	problem p(kh, vh, 3, 3);
	bool ok = true;

	for (const auto &runs : { std::vector<gdn_run>{ { 1, 0, 3, 0, 6, 4 } },
				  std::vector<gdn_run>{ { 1, 0, 2, 0, 7, 7 }, { 0, 2, 1, 0, 2, 1 } } }) {
		p.ordered = 0;
		const outcome plain = launch(p, { runs });
		p.ordered = 1;
		const outcome ordered = launch(p, { runs });

		for (uint32_t i = 0; i < plain.out.size(); i++)
			ok = ok && !memcmp(&plain.out[i], &ordered.out[prefill_column(i)], 2);
	}
	claim("the_order_of_steps_changes_no_value", ok);
}

static void refuses(void)
{
	gdn_step_args g = {};

	g.n_runs = 1;
	g.k_heads = 2;
	g.v_heads = 3;
	claim("odd_shapes_are_refused", gdn_step(&g, nullptr) != 0);
	g.v_heads = 4;
	g.ld = 8 * DIM + 4 * (DIM + 2) + 2;
	claim("rows_that_begin_off_eight_bytes_are_refused", gdn_step(&g, nullptr) != 0);
}

/* 30 layers of the 35B's shape in one graph, through a period. */
static void bench(void)
{
	const uint32_t LAYERS = 30;
	const int KH = 16, VH = 32;
	const double roof = copy_roof();

	printf("%d layers of %d/%d heads in one graph\n\n", LAYERS, KH, VH);
	printf("| rows | us a layer | first of a period | last but one | last | GB/s | of the copy roof |\n"
	       "|--:|--:|--:|--:|--:|--:|--:|\n");
	for (uint32_t rows : { 1u, 2u, 8u, 12u, 16u, 64u }) {
		std::vector<problem *> layers;
		array<gdn_run> runs((size_t)rows * GDN_PERIOD);	/* a period's steps */

		for (uint32_t i = 0; i < LAYERS && (i < 4 || (size_t)rows * i * 2097152 < ((size_t)1 << 28)); i++)
			layers.push_back(new problem(KH, VH, (int)rows, (int)rows));
		for (uint32_t i = 0; i < rows * GDN_PERIOD; i++)
			runs.h[i] = { rows - 1 - i % rows, i % rows, 1, 0, i / rows, i / rows };
		runs.up();
		auto us_of = [&](uint32_t first, uint32_t phases) {	/* a layer's, in the mean */
			return 1000.0 / LAYERS / phases * graph_ms(30, [&](cudaStream_t s) {
				for (uint32_t i = 0; i < LAYERS * phases; i++) {
					gdn_step_args g = layers[i % layers.size()]->args(
						runs.d + (first + i / LAYERS) * rows, rows);
					gdn_step(&g, s);
				}
			});
		};
		const double us = us_of(0, GDN_PERIOD);
		/* A state is read each time and written once a period; of kept tokens half are there in the mean. */
		double bytes = (double)rows *
			       (VH * (DIM * DIM * 4 * (1 + 1.0 / GDN_PERIOD) + GDN_KEPT * (0.5 + 1.0 / GDN_PERIOD) * (2 * DIM + 1) * 4) +
				(4.0 + 6.0) * layers[0]->channels * 2 + VH * DIM * 4);
		printf("| %u | %.2f | %.2f | %.2f | %.2f | %.0f | %.2f |\n", rows, us, us_of(0, 1), us_of(GDN_PERIOD - 2, 1),
		       us_of(GDN_PERIOD - 1, 1), bytes / us / 1e3, bytes / us / 1e6 / roof);
		for (auto *p : layers)
			delete p;
	}
}

int main(int argc, char **argv)
{
	const bool few = asked(argc, argv, "--few");

	if (!have_gpu())
		return 77;
	if (asked(argc, argv, "--bench")) {
		bench();
		return 0;
	}
	against_reference(2, 4);
	against_reference(4, 12);
	two_blocks_a_head(few ? 17 : 16, few ? 34 : 48, few);
	/* with more blocks than have a place at once, of either form */
	many_rows(16, 32, 9);
	many_rows(8, 16, few ? 26 : 101);
	many_runs(few ? 1 : 4, few ? 2 : 8);
	if (few) {
		exactness(2, 4, few);
		in_order(4, 8);
	} else {
		against_reference(16, 32);
		exactness(4, 8, few);
		many_rows(16, 32, 33);
		in_order(16, 32);
	}
	refuses();
	return n_failed ? 1 : 0;
}
