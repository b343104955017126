/* route_test.cu - from logits to experts, bit by bit: choice, weights and list against one thread that
 * does it the plain way; products that choose at their head against the same products over a list
 * that was there.  Exits 77 without a GPU; --few: fewer sizes, for the sanitizers. */
#include <errno.h>

#include "kernels/cuda/route.h"
#include "tests/gpu/gpu_test.h"

static bool few;

struct shape {
	uint32_t rows, experts, top;
	bool shared, list_shared;

	uint32_t slots() const { return top + shared; }
	uint32_t listed() const { return experts + (shared && list_shared); }
};

/* ---- what is right ------------------------------------------------------------------- */

/* A row by one thread: `top` times the largest of those that are left, of equals the lower id; a NaN is
 * never chosen, and where no number is left it is id 0 for nothing. */
__global__ void plain_choice(const float *logits, uint32_t stride, shape s, uint32_t *ids, float *weights)
{
	const uint32_t n_slots = s.top + s.shared;
	const float *x = logits + blockIdx.x * stride;
	float largest = 0, sum = 0;

	ids += blockIdx.x * n_slots;
	weights += blockIdx.x * n_slots;
	for (uint32_t n = 0; n < s.top; n++) {
		uint32_t best = ~0u;

		for (uint32_t id = 0; id < s.experts; id++) {
			bool before = x[id] == x[id];

			for (uint32_t i = 0; i < n; i++)
				before = before && (ids[i] != id || weights[i] == 0);
			/* Of two zeros the positive one is the larger. */
			if (before && best != ~0u)
				before = x[id] > x[best] || (x[id] == x[best] && signbit(x[best]) && !signbit(x[id]));
			best = before ? id : best;
		}
		ids[n] = best == ~0u ? 0 : best;
		weights[n] = best == ~0u ? 0 : 1;	/* taken; NaNs were not */
	}
	for (uint32_t n = 0; n < s.top; n++) {
		largest = n ? largest : x[ids[0]];
		if (weights[n] != 0)
			weights[n] = expf(__fsub_rn(x[ids[n]], largest));
		sum = __fadd_rn(sum, weights[n]);
	}
	for (uint32_t n = 0; n < s.top; n++)
		weights[n] = __fdiv_rn(weights[n], sum);
	if (s.shared) {
		ids[s.top] = s.experts;
		weights[s.top] = __fdiv_rn(1.0f, 1.0f + expf(-x[s.experts]));
	}
}

struct plain_list {
	std::vector<uint32_t> active, offset, pair;

	plain_list(const std::vector<uint32_t> &ids, uint32_t listed)
	{
		for (uint32_t e = 0; e < listed; e++) {
			const size_t before = pair.size();

			for (uint32_t i = 0; i < ids.size(); i++)
				if (ids[i] == e)
					pair.push_back(i);
			if (pair.size() == before)
				continue;
			active.push_back(e);
			offset.push_back((uint32_t)before);
		}
		offset.push_back((uint32_t)pair.size());
	}
};

/* ---- logits of all kinds -------------------------------------------------------------- */

enum kind { PLAIN, TIES, NEAR, SPECIAL, LOST, N_KINDS };

static float logit(enum kind kind)
{
	const float odd[] = { NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 3e38f, -3e38f, 1e-44f };

	switch (kind) {
	case TIES: return (float)(int)(rng() % 5) / 4 - 2;
	case NEAR: return 1 + (float)(rng() % 4) / 2 + (float)(rng() % 64) * 0x1p-23f;	/* but for the last bits */
	case SPECIAL: return rng() % 3 ? 4 * uniform() : odd[rng() % 8];
	case LOST: return rng() % 64 ? NAN : uniform();	/* fewer numbers than `top`, or none */
	default: return 4 * uniform();
	}
}

/* ---- the choice and the list ------------------------------------------------------------ */

struct outcome {
	array<uint32_t> ids;
	array<float> weights;
	array<unsigned char> mem;
	expert_list list;

	explicit outcome(const shape &s)
		: ids((size_t)s.rows * s.slots()), weights(ids.h.size()),
		  mem(expert_list_bytes(s.rows, s.slots(), s.experts + 1)),
		  list(expert_list_at(mem.d, s.rows, s.slots(), s.experts + 1))
	{
		wipe();
	}
	void wipe()
	{
		CUDA(cudaMemset(ids.d, 0xee, ids.h.size() * 4));
		CUDA(cudaMemset(weights.d, 0xee, ids.h.size() * 4));
		CUDA(cudaMemset(mem.d, 0xee, mem.h.size()));
	}
	void down()
	{
		ids.down();
		weights.down();
		mem.down();
	}
	const uint32_t *at(const uint32_t *p) const
	{
		return (const uint32_t *)(mem.h.data() + ((const unsigned char *)p - mem.d));
	}
	bool same_choice(const outcome &o) const
	{
		return ids.h == o.ids.h && !memcmp(weights.h.data(), o.weights.h.data(), weights.h.size() * 4);
	}
	bool lists(const plain_list &l) const
	{
		return *at(list.n_active) == l.active.size() &&
		       std::equal(l.active.begin(), l.active.end(), at(list.active)) &&
		       std::equal(l.offset.begin(), l.offset.end(), at(list.offset)) &&
		       std::equal(l.pair.begin(), l.pair.end(), at(list.pair));
	}
	bool untouched() const
	{
		auto wiped = [](const void *p, size_t n) {
			return std::all_of((const unsigned char *)p, (const unsigned char *)p + n,
					   [](unsigned char c) { return c == 0xee; });
		};

		return wiped(ids.h.data(), ids.h.size() * 4) && wiped(weights.h.data(), weights.h.size() * 4) &&
		       wiped(mem.h.data(), mem.h.size());
	}
	bool guarded() const { return ids.guarded() && weights.guarded() && mem.guarded(); }
};

static route_args args_of(const shape &s, const array<float> &logits, uint32_t stride, outcome &o)
{
	return { logits.d, s.rows, s.experts, stride, s.top, s.shared, s.list_shared, o.ids.d, o.weights.d, o.list };
}

static void choices(const shape &s)
{
	const uint32_t stride = s.experts + 1 + rng() % 3;
	array<float> logits((size_t)s.rows * stride);
	outcome want(s), got(s);
	uint32_t chosen = 0, listed = 0, kept = 0;

	for (int kind = 0; kind < N_KINDS; kind++) {
		const route_args a = args_of(s, logits, stride, got);

		for (auto &x : logits.h)
			x = logit((enum kind)kind);
		for (uint32_t r = 0; r < s.rows; r++)	/* what follows the logits is not chosen from */
			logits.h[r * stride + s.experts] = 100;
		logits.up();
		got.wipe();
		plain_choice<<<s.rows, 1>>>(logits.d, stride, s, want.ids.d, want.weights.d);
		if (route(&a, nullptr))
			break;
		CUDA(cudaDeviceSynchronize());
		want.down();
		got.down();
		chosen += got.same_choice(want);
		listed += got.lists(plain_list(want.ids.h, s.listed()));
		kept += got.guarded();
	}
	if (chosen == N_KINDS && listed == N_KINDS && kept == N_KINDS)
		return;
	printf("  %u rows, %u of %u experts, shared %d, listed %d: choice %u, list %u, guards %u of %d\n", s.rows, s.top,
	       s.experts, s.shared, s.list_shared, chosen, listed, kept, N_KINDS);
	n_failed++;
}

static void all_choices(void)
{
	const int before = n_failed;

	for (uint32_t rows : { 1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 9u, 16u, 17u, 32u, 33u, 64u, 65u, 128u, 129u, 200u, 256u })
		for (uint32_t experts : { 32u, 60u, 256u, 511u }) {
			if (few && (rows % 32 != 1 || experts != 256))
				continue;
			choices({ rows, experts, 8, true, true });
			choices({ rows, experts, 8, true, false });
			choices({ rows, experts, 8, false, false });
		}
	for (uint32_t rows : { 1u, 8u, 9u, 256u }) {
		if (few && rows != 9)
			continue;
		choices({ rows, 15, 15, true, true });
		choices({ rows, 300, 15, true, false });
		choices({ rows, 1, 1, false, false });
		choices({ rows, 257, 1, true, true });
	}
	claim("choice_weights_and_list_are_those_of_one_thread", n_failed == before);
}

/* ---- products that choose ------------------------------------------------------------------ */

struct experts_case {
	enum matmul_format format;
	uint32_t n, k;
	bool per_slot, swiglu, settled, without_last;
	enum matmul_form form;
	bool beside;	/* an FP8 product in the same launch */
};

/* Weights whose products are numbers: no operand or scale is an infinity or a NaN. */
static void fill_weights(array<uint32_t> &w, enum matmul_format f)
{
	for (auto &x : w.h) {
		const uint32_t bits = rng() << 16 ^ rng();

		x = f == MATMUL_BF16 ? (bits & 0x83ff83ff) | 0x3c003c00 : bits & 0xbfbfbfbf;
	}
	w.up();
}

static int multiply(const experts_case &c, const shape &s, decode_experts_args a, const decode_matmul_args &b, char *y,
		    const route_args *choice)
{
	a.y = y;
	a.choice = choice;
	a.list = choice ? nullptr : a.list;
	a.list_settled = c.settled;
	if (!c.beside)
		return decode_experts(&a, nullptr);
	return decode_experts_beside(&a, &b, nullptr);
}

static void heads(const experts_case &c, const shape &s)
{
	const uint32_t stride = s.experts + 1, pairs = s.rows * s.slots();
	const size_t y_bytes = (size_t)pairs * c.n * 4;
	array<uint32_t> w(s.listed() * matmul_packed_bytes(c.format, c.n, c.k) / 4),
		w2(matmul_packed_bytes(MATMUL_FP8, 64, 512) / 4);
	array<float> logits((size_t)s.rows * stride), scales(s.listed() * ((c.n + 15) / 16 * 16));
	array<__nv_bfloat16> x((size_t)pairs * c.k + 8 * 512);
	array<char> y_list(y_bytes), y_own(y_bytes), y2_list(8 * 64 * 4), y2_own(8 * 64 * 4);
	outcome from_route(s), from_head(s);
	decode_experts_args a = {};
	decode_matmul_args b = {};
	const int kinds = few ? 1 : N_KINDS;
	uint32_t good = 0, stored = 0;

	fill_weights(w, c.format);
	fill_weights(w2, MATMUL_FP8);
	x.fill_bf16();
	for (auto &v : scales.h)
		v = 1 + uniform() / 2;
	scales.up();
	a.w = w.d;
	a.row_scale = c.format == MATMUL_BF16 ? nullptr : scales.d;
	a.x = x.d;
	a.n_rows = s.rows;
	a.n_slots = s.slots();
	a.n_experts = s.listed();
	a.n = c.n;
	a.k = a.ldx = c.k;
	a.ldy = c.swiglu ? c.n / 2 : c.n;
	a.x_per_slot = c.per_slot;
	a.without_last = c.without_last;
	a.format = c.format;
	a.out = c.swiglu ? MATMUL_OUT_SWIGLU : MATMUL_OUT_F32;
	a.form = c.form;
	b.w = w2.d;
	b.x = x.d;
	b.n_rows = s.rows;
	b.n = b.ldy = 64;
	b.k = b.ldx = 512;
	b.format = MATMUL_FP8;
	for (int kind = 0; kind < kinds; kind++) {
		const route_args listed = args_of(s, logits, stride, from_route),
				 own = args_of(s, logits, stride, from_head);

		for (auto &v : logits.h)
			v = logit((enum kind)kind);
		logits.up();
		from_head.wipe();
		for (auto *y : { &y_list, &y_own, &y2_list, &y2_own })
			CUDA(cudaMemset(y->d, 0xee, y->h.size()));
		if (route(&listed, nullptr))
			break;
		CUDA(cudaDeviceSynchronize());
		a.list = &from_route.list;
		b.y = y2_list.d;
		if (multiply(c, s, a, b, y_list.d, nullptr))
			break;
		b.y = y2_own.d;
		if (multiply(c, s, a, b, y_own.d, &own))
			break;
		CUDA(cudaDeviceSynchronize());
		from_route.down();
		from_head.down();
		for (auto *y : { &y_list, &y_own, &y2_list, &y2_own })
			y->down();
		good += y_list.h == y_own.h && y2_list.h == y2_own.h && y_own.guarded() && y2_own.guarded() &&
			std::any_of(y_own.h.begin(), y_own.h.end(), [](char v) { return v != (char)0xee; });
		stored += from_head.guarded() &&
			  (c.settled ? from_head.untouched()
				     : from_head.same_choice(from_route) &&
					       from_head.lists(plain_list(from_route.ids.h, s.listed())));
	}
	if ((int)good == kinds && (int)stored == kinds)
		return;
	printf("  %s %u x %u, form %d, %u rows, %u experts, settled %d%s: %u products, %u choices of %d\n",
	       matmul_format_name(c.format), c.n, c.k, c.form, s.rows, s.experts, c.settled, c.beside ? ", beside" : "",
	       good, stored, kinds);
	n_failed++;
}

static void all_heads(void)
{
	const int before = n_failed;

	for (uint32_t rows = few ? 5 : 1; rows <= (few ? 5 : ROUTE_FEW_ROWS); rows++)
		for (enum matmul_format f : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 })
			for (int settled = 0; settled < (few ? 1 : 2); settled++) {
				const enum matmul_form other = f == MATMUL_BF16 ? MATMUL_NARROW : MATMUL_RING;

				/* gate and up, without the shared expert; down, with it */
				heads({ f, 64, 2048, false, true, settled != 0, true, other, false },
				      { rows, 60, 8, true, true });
				heads({ f, 128, 512, true, false, settled != 0, false, other, false },
				      { rows, 60, 8, true, true });
				heads({ f, 64, 1296, false, true, settled != 0, false, MATMUL_NARROW, false },
				      { rows, 60, 8, true, false });
				/* one, three, five, six and seven slices */
				for (uint32_t k : { 256u, 768u, 1280u, 1296u, 1792u })
					heads({ f, 64, k, k == 768, true, settled != 0, false, other, false },
					      { rows, 60, 8, true, k == 1280 });
				heads({ f, 16, 2560, false, true, settled != 0, false, MATMUL_AUTO, false },
				      { rows, 200, 15, false, false });
				heads({ f, 1024, 256, false, true, settled != 0, true, MATMUL_AUTO, false },
				      { rows, 32, 8, true, true });
				if (f == MATMUL_NVFP4)
					heads({ f, 128, 512, true, false, settled != 0, false, MATMUL_AUTO, true },
					      { rows, 60, 8, true, false });
			}
	claim("a_product_that_chooses_has_the_bits_of_one_that_is_told", n_failed == before);
}

static void refuses(void)
{
	const shape s = { 9, 60, 8, true, true };
	array<float> logits(9 * 61);
	array<uint32_t> w(1 << 16);
	outcome o(s);
	route_args r = args_of(s, logits, 61, o), bad = r;
	decode_experts_args a = {};

	a.w = w.d;
	a.x = w.d;
	a.y = w.d + (1 << 15);
	a.choice = &r;
	a.n_rows = 9;
	a.n_slots = 9;
	a.n_experts = 61;
	a.n = a.ldy = 16;
	a.k = a.ldx = 256;
	claim("more_rows_than_a_few_are_not_chosen_for_by_products", decode_experts(&a, nullptr) == -EINVAL);
	a.n_rows = 8;
	claim("nor_rows_that_are_not_those_of_the_choice", decode_experts(&a, nullptr) == -EINVAL);
	bad.rows = 8;
	bad.experts = bad.stride = 300;
	bad.shared = 0;
	a.choice = &bad;
	a.n_slots = 8;
	a.n_experts = 300;
	claim("nor_among_more_experts_than_a_few", decode_experts(&a, nullptr) == -EINVAL);
	bad = r;
	bad.rows = 257;
	claim("odd_choices_are_refused", route(&bad, nullptr) == -EINVAL);
	bad = r;
	bad.top = 16;
	claim("too_many_experts_a_row_are_refused", route(&bad, nullptr) == -EINVAL);
}

int main(int argc, char **argv)
{
	few = asked(argc, argv, "--few");
	if (!have_gpu())
		return 77;
	all_choices();
	all_heads();
	refuses();
	return n_failed ? 1 : 0;
}
