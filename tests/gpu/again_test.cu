/* again_test.cu - every matrix of the 35B's decode step, its experts' products and their choice, a
 * thousand times over: the same bits each time.  Two inputs take turns, each written by a kernel that the tested one
 * overlaps with (launch.cuh), as in a step; so what is read too early, or read once and kept, is
 * another input's, and what is not ordered inside a kernel has a thousand occasions to show.  Others
 * compare a launch with a reference; a fault of one launch in some hundred is seen here.
 *
 *	again_test [REPEATS]	1,000 if not given
 *	again_test --few	fewer shapes, once: for the sanitizers
 *
 * Exits 77 without a GPU. */
#include <array>

#include "bench/cuda/given_list.h"
#include "kernels/cuda/launch.cuh"
#include "tests/gpu/step_args.h"

static cudaStream_t stream;
static uint32_t repeats = 1000;
static bool few;

/* to = from, and nothing of the last answer is left. */
__global__ void turn_kernel(uint32_t *to, const uint32_t *from, uint32_t n, uint32_t *out, uint32_t n_out)
{
	const uint32_t first = blockIdx.x * blockDim.x + threadIdx.x, step = gridDim.x * blockDim.x;

	chain_wait();
	chain_release();
	for (uint32_t i = first; i < n; i += step)
		to[i] = from[i];
	for (uint32_t i = first; i < n_out; i += step)
		out[i] = 0xeeeeeeee;
}

__global__ void differ_kernel(const uint32_t *got, const uint32_t *want, uint32_t n, uint32_t *ret)
{
	uint32_t differ = 0;

	chain_wait();
	chain_release();
	for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
		differ |= got[i] != want[i];
	if (differ)
		*ret = 1;
}

/* How many of the launches answered otherwise than the first with the same input; -1: one failed. */
template <typename In, typename Out, typename Tested>
static int again(const array<In> &in0, const array<In> &in1, array<In> &in, array<Out> &out, Tested tested)
{
	const uint32_t n_in = (uint32_t)(in.h.size() * sizeof(In) / 4),
		       n_out = (uint32_t)(out.h.size() * sizeof(Out) / 4);
	const array<In> *const from[2] = { &in0, &in1 };
	array<uint32_t> want0(n_out), want1(n_out), differ(repeats);
	array<uint32_t> *const want[2] = { &want0, &want1 };
	const dim3 grid(64);

	CUDA(cudaMemset(differ.d, 0, repeats * 4));
	for (int i = 0; i < 2; i++) {
		CUDA(cudaMemcpy(in.d, from[i]->d, n_in * 4, cudaMemcpyDeviceToDevice));
		CUDA(cudaMemset(out.d, 0xee, n_out * 4));
		CUDA(cudaDeviceSynchronize());
		if (tested())
			return -1;
		CUDA(cudaDeviceSynchronize());
		CUDA(cudaMemcpy(want[i]->d, out.d, n_out * 4, cudaMemcpyDeviceToDevice));
	}
	for (uint32_t i = 0; i < repeats; i++)
		if (chain_launch(turn_kernel, grid, 256, 0, 1, stream, (uint32_t *)in.d,
				 (const uint32_t *)from[i % 2]->d, n_in, (uint32_t *)out.d, n_out) ||
		    tested() ||
		    chain_launch(differ_kernel, grid, 256, 0, 1, stream, (const uint32_t *)out.d,
				 (const uint32_t *)want[i % 2]->d, n_out, differ.d + i))
			return -1;
	CUDA(cudaDeviceSynchronize());
	differ.down();
	return (int)std::count(differ.h.begin(), differ.h.end(), 1u);
}

/* One matrix at every form's numbers of rows. */
static bool matrix(enum matmul_format f, uint32_t n, uint32_t k)
{
	array<uint32_t> w(matmul_packed_bytes(f, n, k) / 4);
	bool ok = true;

	fill_weights(f, w.h);
	w.up();
	for (uint32_t rows : few ? std::vector<uint32_t>{ 1, 9, 25, 64 } :
				   std::vector<uint32_t>{ 1, 3, 8, 9, 16, 24, 25, 32, 33, 64, 100 }) {
		array<__nv_bfloat16> x0((size_t)rows * k), x1((size_t)rows * k), x((size_t)rows * k);
		array<float> y((size_t)rows * n);

		x0.fill_bf16();
		x1.fill_bf16();
		decode_matmul_args a = product_args(f, w.d, n, k, x.d, y.d, rows);
		const int orders = decode_matmul_orders(&a);

		for (a.x_ordered = 0; a.x_ordered <= orders; a.x_ordered++) {
			const int differ =
				again(x0, x1, x, y, [&] { return decode_matmul(&a, stream); });

			if (differ)
				printf("  %s %u x %u, %u rows%s: %d of %u differ\n", matmul_format_name(f), n, k,
				       rows, a.x_ordered ? " in order" : "", differ, repeats);
			ok &= !differ && y.guarded();
		}
	}
	return ok;
}

static void products(enum matmul_format f)
{
	/* DeltaNet in, out; attention in; router; router and shared gate, up; shared down; a piece of the
	 * head that takes several rounds of blocks. */
	static const std::vector<std::array<uint32_t, 2>> all = {
		{ 12352, 2048 }, { 2048, 4096 }, { 9216, 2048 }, { 257, 2048 }, { 1281, 2048 }, { 2048, 512 }, { 40000, 2048 }
	};
	/* A short one, the router. */
	static const std::vector<std::array<uint32_t, 2>> some = { { 528, 2048 }, { 257, 2048 } };
	char name[64];
	bool ok = true;

	for (const auto &s : few ? some : all)
		ok &= matrix(f, s[0], s[1]);
	snprintf(name, sizeof(name), "a_product_has_the_same_bits_again_%s", matmul_format_name(f));
	claim(name, ok);
}

/* ---- experts ------------------------------------------------------------------------------- */

#define SOME_EXPERTS 64u	/* of one size, chosen by some hundred pairs, or by few */
#define SOME_SLOTS (STEP_SLOTS - 1)

/* A layer's experts: gate and up, or down (x has a row a slot). */
struct layer_experts {
	enum matmul_format f;
	uint32_t n, k;
	bool down;
	array<uint32_t> w, ids, room;
	array<float> scale, weights, logits;

	layer_experts(enum matmul_format f_, bool down_, uint32_t most_rows)
		: f(f_), n(down_ ? 2048 : 1024), k(down_ ? 512 : 2048), down(down_),
		  w(SOME_EXPERTS * matmul_packed_bytes(f, n, k) / 4), ids(most_rows * SOME_SLOTS),
		  room(expert_list_bytes(most_rows, STEP_SLOTS, SOME_EXPERTS + 1) / 4), scale(SOME_EXPERTS * n),
		  weights(ids.h.size()), logits(most_rows * (SOME_EXPERTS + 1))
	{
		fill_weights(f, w.h);
		w.up();
		for (size_t i = 0; i < ids.h.size(); i++)	/* uneven */
			ids.h[i] = (uint32_t)(i / SOME_SLOTS * 5 % 17 + i % SOME_SLOTS * 3) % SOME_EXPERTS;
		ids.up();
		room.up();	/* all of a list may be read */
		for (auto *v : { &scale, &weights, &logits }) {
			for (float &x : v->h)
				x = 1 + uniform() / 2;
			v->up();
		}
	}
	size_t x_rows(uint32_t rows) const { return (size_t)rows * (down ? SOME_SLOTS : 1); }
	expert_list list(uint32_t rows) { return expert_list_at(room.d, rows, SOME_SLOTS, SOME_EXPERTS + 1); }
	/* The list is not there yet. */
	decode_experts_args args(const void *x, void *y, uint32_t rows)
	{
		decode_experts_args a = {};

		a.w = w.d;
		a.row_scale = f == MATMUL_BF16 ? nullptr : scale.d;
		a.x = x;
		a.y = y;
		a.n_rows = rows;
		a.n_slots = SOME_SLOTS;
		a.n_experts = SOME_EXPERTS;
		a.n = n;
		a.k = a.ldx = k;
		a.ldy = down ? n : n / 2;
		a.x_per_slot = down;
		a.format = f;
		a.out = down ? MATMUL_OUT_F32 : MATMUL_OUT_SWIGLU;
		return a;
	}
};

static bool said(const struct layer_experts &e, const char *what, uint32_t rows, int differ, bool guarded)
{
	if (differ)
		printf("  %s %s, %s, %u rows: %d of %u differ\n", matmul_format_name(e.f), e.down ? "down" : "gate and up",
		       what, rows, differ, repeats);
	return !differ && guarded;
}

/* Over a list that is there, waited for and not, and chosen at the head where there are few rows. */
static bool listed(struct layer_experts &e, uint32_t rows)
{
	array<__nv_bfloat16> x0(e.x_rows(rows) * e.k), x1(x0.h.size()), x(x0.h.size());
	array<float> y((size_t)rows * SOME_SLOTS * e.n / (e.down ? 1 : 4));
	const std::vector<uint32_t> ids(e.ids.h.begin(), e.ids.h.begin() + rows * SOME_SLOTS);
	expert_list list = e.list(rows);
	decode_experts_args a = e.args(x.d, y.d, rows);
	bool ok = true;

	x0.fill_bf16();
	x1.fill_bf16();
	CUDA(given_list(ids, SOME_EXPERTS, &list));
	a.list = &list;
	for (a.list_settled = 0; a.list_settled < 2; a.list_settled++)
		ok &= said(e, a.list_settled ? "a list that was there" : "a list", rows,
			   again(x0, x1, x, y, [&] { return decode_experts(&a, stream); }), y.guarded());
	if (rows > ROUTE_FEW_ROWS)
		return ok;
	array<uint32_t> chosen(rows * SOME_SLOTS);
	array<float> weights(rows * SOME_SLOTS);
	const route_args choice = { e.logits.d, rows, SOME_EXPERTS, SOME_EXPERTS + 1, SOME_SLOTS, 0, 0, chosen.d, weights.d, list };

	a.choice = &choice;
	a.list_settled = 0;
	return said(e, "chosen", rows, again(x0, x1, x, y, [&] { return decode_experts(&a, stream); }), y.guarded()) && ok;
}

/* The last product with the sum over slots. */
static bool summed(struct layer_experts &e, uint32_t rows)
{
	array<__nv_bfloat16> x0(e.x_rows(rows) * e.k), x1(x0.h.size()), x(x0.h.size());
	array<float> y((size_t)rows * e.n);
	struct experts_sum_args a = {};

	x0.fill_bf16();
	x1.fill_bf16();
	a.experts = e.args(x.d, y.d, rows);
	a.ids = e.ids.d;
	a.weights = e.weights.d;
	return said(e, "summed", rows, again(x0, x1, x, y, [&] { return decode_experts_sum(&a, stream); }), y.guarded());
}

static void experts(enum matmul_format f)
{
	/* Eight or sixteen columns of a tile, experts of several passes. */
	const std::vector<uint32_t> all = { 1, 2, 8, 16, 64, 256 }, some = { 2 };
	char name[64];
	bool ok = true;

	for (bool down : { false, true }) {
		struct layer_experts e(f, down, 256);

		for (uint32_t rows : few ? some : all)
			ok &= listed(e, rows);
		for (uint32_t rows : { 1u, 2u })
			ok &= !down || summed(e, rows);
	}
	snprintf(name, sizeof(name), "experts_have_the_same_bits_again_%s", matmul_format_name(f));
	claim(name, ok);
}

static void choices(void)
{
	bool ok = true;

	for (uint32_t rows : few ? std::vector<uint32_t>{ 1, 9, 64 } :
				   std::vector<uint32_t>{ 1, 8, 9, 17, 33, 64, 256 }) {
		const size_t n = (size_t)rows * (STEP_EXPERTS + 1);
		array<float> logits0(n), logits1(n), logits(n);
		array<uint32_t> out(choice_words(rows));

		for (size_t i = 0; i < n; i++) {
			logits0.h[i] = 4 * uniform();
			logits1.h[i] = 4 * uniform();
		}
		logits0.up();
		logits1.up();
		const int differ = again(logits0, logits1, logits, out, [&] {
			const route_args a = choice_args(logits.d, rows, out.d);

			return route(&a, stream);
		});

		if (differ)
			printf("  %u rows: %d of %u differ\n", rows, differ, repeats);
		ok &= !differ && out.guarded();
	}
	claim("a_choice_is_the_same_again", ok);
}

int main(int argc, char **argv)
{
	few = asked(argc, argv, "--few");
	if (argc > 1)
		repeats = few ? 1 : (uint32_t)std::max(atoi(argv[1]), 1);
	if (!have_gpu())
		return 77;
	CUDA(cudaStreamCreate(&stream));
	for (enum matmul_format f : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 })
		products(f);
	for (enum matmul_format f : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 })
		experts(f);
	choices();
	return n_failed ? 1 : 0;
}
