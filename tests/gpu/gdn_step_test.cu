/* gdn_step_test.cu - the Gated DeltaNet decode kernel against a reference in double, and the
 * exactness claims: a run of n rows equals n runs of one row, and neighbours change no bit.
 * Prints claims like cmocka does; exits 77 without a GPU.
 *	gdn_step_test [--bench | --few]   also a markdown table of times; fewer rows, for the sanitizers
 */
#include "kernels/cuda/gdn_step.h"

#include "kernels/cuda/prefill_matmul.h"
#include "tests/gpu/gpu_test.h"

static const int DIM = GDN_DIM;

struct problem {
	int kh, vh, rows, slots, channels, ld, ordered = 0;
	array<__nv_bfloat16> u, w, window, norm, out;	/* a row of u: q k v, z, b, a */
	array<float> a_log, dt, state, o;

	problem(int kh_, int vh_, int rows_, int slots_)
		: kh(kh_), vh(vh_), rows(rows_), slots(slots_), channels((2 * kh_ + vh_) * DIM),
		  ld(channels + vh * (DIM + 2)), u((size_t)rows * ld), w((size_t)channels * 4),
		  window((size_t)slots * 6 * channels), norm(DIM), out((size_t)rows * vh * DIM), a_log(vh), dt(vh),
		  state((size_t)slots * vh * DIM * DIM), o((size_t)rows * vh * DIM)
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
		u.up(); w.up(); norm.up(); out.up(); a_log.up(); dt.up();
		reset();
	}
	void reset(void) { window.up(); state.up(); o.up(); }
	gdn_step_args args(const gdn_run *runs, uint32_t n)
	{
		gdn_step_args g = { runs, n, (uint32_t)kh, (uint32_t)vh, (uint32_t)ld, u.d, u.d + a_at(0),
				    u.d + b_at(0), u.d + channels, w.d, a_log.d, dt.d, window.d, state.d, norm.d, 1e-6f,
				    o.d, out.d, ordered };
		return g;
	}
	int z_at(int h) const { return channels + h * DIM; }
	int b_at(int h) const { return channels + vh * DIM + h; }
	int a_at(int h) const { return b_at(vh) + h; }
	double in(int row, int col) const { return (double)__bfloat162float(u.h[(size_t)row * ld + col]); }
};

struct outcome {
	std::vector<float> o, state;
	std::vector<__nv_bfloat16> window, out;
};

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
	r.window.resize(p.window.h.size());
	r.out.resize(p.out.h.size());
	CUDA(cudaMemcpy(r.out.data(), p.out.d, r.out.size() * 2, cudaMemcpyDeviceToHost));
	CUDA(cudaMemcpy(r.o.data(), p.o.d, r.o.size() * 4, cudaMemcpyDeviceToHost));
	CUDA(cudaMemcpy(r.state.data(), p.state.d, r.state.size() * 4, cudaMemcpyDeviceToHost));
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
	S.assign(p.state.h.begin() + (size_t)run.slot * p.vh * DIM * DIM,
		 p.state.h.begin() + (size_t)(run.slot + 1) * p.vh * DIM * DIM);
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
	problem p(kh, vh, 9, 3);
	std::vector<gdn_run> runs = { { 2, 0, 1, 0 }, { 0, 1, 5, 1 }, { 1, 6, 3, 0 } };
	outcome r = launch(p, { runs });
	bool ok = true;
	char name[128];

	for (const auto &run : runs) {
		std::vector<double> o, S;
		double eo, es;

		reference(p, run, o, S);
		eo = relative_error(o, &r.o[(size_t)run.row * vh * DIM]);
		es = relative_error(S, &r.state[(size_t)run.slot * vh * DIM * DIM]);
		printf("  heads %d/%d run of %u: relative error o %.2e, state %.2e\n", kh, vh, run.n, eo, es);
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
	       !memcmp(&x.window[(slot * 2 + side) * c], &y.window[(slot * 2 + side) * c], c * 2);
}

static void exactness(int kh, int vh)
{
	const uint32_t N = 8;
	problem p(kh, vh, 64, 20);
	outcome whole = launch(p, { { { 3, 8, N, 0 } } });
	std::vector<std::vector<gdn_run>> single, crowd;

	for (uint32_t t = 0; t < N; t++)
		single.push_back({ { 3, 8 + t, 1, t % 2 } });
	outcome one = launch(p, single);
	size_t from = (size_t)8 * p.vh * DIM, n = (size_t)N * p.vh * DIM;
	claim("a_run_of_n_rows_equals_n_runs_of_one",
	      !memcmp(&whole.o[from], &one.o[from], n * 4) && !memcmp(&whole.out[from], &one.out[from], n * 2) &&
		      !memcmp(&whole.state[(size_t)3 * p.vh * DIM * DIM], &one.state[(size_t)3 * p.vh * DIM * DIM],
			      (size_t)p.vh * DIM * DIM * 4) &&
		      !memcmp(&whole.window[(size_t)(3 * 2 + 1) * 3 * p.channels],
			      &one.window[(size_t)(3 * 2 + 0) * 3 * p.channels], (size_t)3 * p.channels * 2));
	crowd.push_back({ { 9, 0, 2, 0 }, { 4, 2, 1, 1 }, { 3, 8, N, 0 }, { 0, 16, 16, 0 }, { 7, 40, 1, 1 } });
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
		together[0].push_back({ (i * 7 + 3) % rows, i, 1, i % 2 });
		single.push_back({ together[0].back() });
	}
	outcome all = launch(p, together), one = launch(p, single);
	snprintf(name, sizeof(name), "%u_rows_of_%d_heads_equal_rows_alone", rows, vh);
	claim(name, !memcmp(all.o.data(), one.o.data(), all.o.size() * 4) &&
			    !memcmp(all.out.data(), one.out.data(), all.out.size() * 2) &&
			    !memcmp(all.state.data(), one.state.data(), all.state.size() * 4) &&
			    !memcmp(all.window.data(), one.window.data(), all.window.size() * 2));
}

/* The form of many runs with runs of several rows, which other threads' channels go through as well. */
static void many_runs(int kh, int vh)
{
	const uint32_t n_runs = 26, most = 5;
	problem p(kh, vh, (int)(n_runs * most), (int)n_runs);
	std::vector<std::vector<gdn_run>> together(1), single;

	for (uint32_t i = 0; i < n_runs; i++) {
		together[0].push_back({ (i * 7 + 3) % n_runs, i * most, 1 + i % most, i % 2 });
		single.push_back({ together[0].back() });
	}
	const outcome all = launch(p, together), one = launch(p, single);

	claim("runs_of_several_rows_among_many_equal_runs_alone",
	      !memcmp(all.o.data(), one.o.data(), all.o.size() * 4) &&
		      !memcmp(all.out.data(), one.out.data(), all.out.size() * 2) &&
		      !memcmp(all.state.data(), one.state.data(), all.state.size() * 4) &&
		      !memcmp(all.window.data(), one.window.data(), all.window.size() * 2));
}

/* The same values in the order of steps, of one run (several blocks a head) and of more. */
static void in_order(int kh, int vh)
{
	problem p(kh, vh, 3, 3);
	bool ok = true;

	for (const auto &runs : { std::vector<gdn_run>{ { 1, 0, 3, 0 } },
				  std::vector<gdn_run>{ { 1, 0, 2, 0 }, { 0, 2, 1, 0 } } }) {
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
}

/* 30 layers of the 35B's shape in one graph; every slot's state is read and written once. */
static void bench(void)
{
	const int LAYERS = 30, KH = 16, VH = 32;
	const double roof = copy_roof();

	printf("%d layers of %d/%d heads in one graph\n\n", LAYERS, KH, VH);
	printf("| rows | us a layer | GB/s | of the copy roof |\n|--:|--:|--:|--:|\n");
	for (int rows : { 1, 8, 16, 64, 200 }) {
		std::vector<problem *> layers;
		array<gdn_run> runs((size_t)rows);

		for (int i = 0; i < LAYERS && (i < 4 || (size_t)rows * i * 2097152 < ((size_t)16 << 30)); i++)
			layers.push_back(new problem(KH, VH, rows, rows));
		for (int i = 0; i < rows; i++)
			runs.h[i] = { (uint32_t)(rows - 1 - i), (uint32_t)i, 1, 0 };
		runs.up();
		double us = 1000.0 / LAYERS * graph_ms(30, [&](cudaStream_t s) {
			for (int i = 0; i < LAYERS; i++) {
				gdn_step_args g = layers[i % layers.size()]->args(runs.d, (uint32_t)rows);
				gdn_step(&g, s);
			}
		});
		double bytes = (double)rows * (2.0 * VH * DIM * DIM * 4 + (4.0 + 6.0) * layers[0]->channels * 2 +
					       VH * DIM * 4);
		printf("| %d | %.2f | %.0f | %.2f |\n", rows, us, bytes / us / 1e3, bytes / us / 1e6 / roof);
		for (auto *p : layers)
			delete p;
	}
}

int main(int argc, char **argv)
{
	const bool few = asked(argc, argv, "--few");

	if (!have_gpu())
		return 77;
	against_reference(2, 4);
	against_reference(16, 32);
	against_reference(4, 12);
	exactness(4, 8);
	many_rows(4, 8, few ? 25 : 101);
	many_runs(4, 8);
	many_rows(16, 32, 9);
	if (!few)
		many_rows(16, 32, 33);
	in_order(16, 32);
	refuses();
	if (asked(argc, argv, "--bench"))
		bench();
	return n_failed ? 1 : 0;
}
