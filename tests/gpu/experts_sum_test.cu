/* experts_sum_test.cu - the last product of experts with the sum over slots (decode_experts_sum()): the
 * bits of the products one by one and of their sum on the host, at odd sizes, in every pair of
 * formats, with poison where it writes and guard bytes behind.
 *
 * Exits 77 without a GPU; --few: fewer numbers of rows and slots, for the sanitizers. */
#include <errno.h>

#include "bench/cuda/given_list.h"
#include "tests/gpu/step_args.h"

static bool few;

static bool same(array<float> &a, array<float> &b)
{
	a.down();
	b.down();
	return !memcmp(a.h.data(), b.h.data(), a.h.size() * 4) && a.guarded() && b.guarded();
}

struct experts_case {
	enum matmul_format f, last;
	bool has_last;
	uint32_t rows, slots, n, k, last_k;
};

static constexpr uint32_t EXPERTS = 23;

/* What residual_add() makes of nothing but the slots: sum in order, in float32. */
static void sum_slots(const struct experts_case &c, array<float> &y, const array<float> &weight,
		      array<float> &ret)
{
	y.down();
	for (size_t r = 0; r < c.rows; r++)
		for (size_t i = 0; i < c.n; i++) {
			const float *w = &weight.h[r * c.slots];
			float sum = w[0] * y.h[r * c.slots * c.n + i];

			for (size_t s = 1; s < c.slots; s++)
				sum = fmaf(w[s], y.h[(r * c.slots + s) * c.n + i], sum);
			ret.h[r * c.n + i] = sum;
		}
	ret.up();
}

static bool experts_sum(const struct experts_case &c)
{
	const uint32_t pairs = c.rows * c.slots;
	packed w(c.f, EXPERTS, c.n, c.k), last(c.last, 1, c.n, c.last_k);
	array<__nv_bfloat16> x((size_t)pairs * c.k), last_x((size_t)c.rows * c.last_k);
	array<float> y((size_t)pairs * c.n), want((size_t)c.rows * c.n), got((size_t)c.rows * c.n),
		weight(pairs);
	array<uint32_t> ids(pairs), room(expert_list_bytes(c.rows, c.slots, EXPERTS) / 4 + 4);
	const struct expert_list list = expert_list_at(room.d, c.rows, c.slots, EXPERTS);
	struct decode_matmul_args l = product_args(c.last, last.w.d, c.n, c.last_k, last_x.d,
						   y.d + (c.slots - 1) * c.n, c.rows);
	struct decode_experts_args e = {};
	struct experts_sum_args a = {};

	x.fill_bf16();
	last_x.fill_bf16();
	for (uint32_t i = 0; i < pairs; i++) {
		const bool is_last = c.has_last && i % c.slots == c.slots - 1;

		ids.h[i] = is_last ? EXPERTS : (i / c.slots * 5 + i % c.slots * 2) % EXPERTS;
		weight.h[i] = uniform();
	}
	ids.up();
	weight.up();
	CUDA(given_list(ids.h, EXPERTS, &list));
	l.row_scale = c.last == MATMUL_BF16 ? NULL : last.scale.d;
	l.ldy = c.slots * c.n;
	e.w = w.w.d;
	e.row_scale = c.f == MATMUL_BF16 ? NULL : w.scale.d;
	e.format = c.f;
	e.x = x.d;
	e.y = y.d;
	e.list = &list;
	e.n_rows = c.rows;
	e.n_slots = c.slots;
	e.n_experts = EXPERTS;
	e.n = e.ldy = c.n;
	e.k = e.ldx = c.k;
	e.x_per_slot = 1;
	e.out = MATMUL_OUT_F32;
	e.form = MATMUL_NARROW;
	a.experts = e;
	a.experts.y = got.d;
	a.last = c.has_last ? &l : NULL;
	a.ids = ids.d;
	a.weights = weight.d;
	CUDA(cudaMemset(y.d, 0xee, y.h.size() * 4));
	CUDA(cudaMemset(got.d, 0xee, got.h.size() * 4));
	if (decode_experts(&e, NULL) || (c.has_last && decode_matmul(&l, NULL)) ||
	    decode_experts_sum(&a, NULL))
		return false;
	CUDA(cudaDeviceSynchronize());
	sum_slots(c, y, weight, want);
	return same(want, got);
}

static void experts(void)
{
	static const uint32_t size[][3] = { { 2048, 512, 512 }, { 40, 256, 768 }, { 257, 776, 264 }, { 16, 1536, 8 } };
	bool ok = true;

	for (enum matmul_format f : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 })
		for (enum matmul_format last : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 })
			for (const auto &s : size)
				for (uint32_t rows : { 1u, 2u, 5u })
					for (uint32_t slots : { 9u, 4u, 1u }) {
						const bool has = last != f || slots == 4;

						if (few && (rows == 1 || slots == 9))
							continue;
						const struct experts_case c = { f, last, has, rows, slots,
										s[0], s[1], s[2] };

						if (experts_sum(c))
							continue;
						printf("  %s, last %s: %u x %u, %u rows of %u slots differ\n",
						       matmul_format_name(f), matmul_format_name(last),
						       s[0], s[1], rows, slots);
						ok = false;
					}
	claim("a_sum_over_slots_has_the_bits_of_products_and_sum", ok);
}

static void refusals(void)
{
	static const float memory[64] = {};
	struct decode_matmul_args last =
		product_args(MATMUL_FP8, memory, 40, 256, memory, (float *)memory, 1);
	struct experts_sum_args a = {};

	a.experts.w = a.experts.x = memory;
	a.experts.y = (void *)memory;
	a.experts.n_rows = 1;
	a.experts.n_slots = EXPERTS_SUM_SLOTS + 1;	/* a block has no warp for it */
	a.experts.n_experts = EXPERTS;
	a.experts.n = a.experts.ldy = 48;
	a.experts.k = a.experts.ldx = 256;
	a.experts.out = MATMUL_OUT_F32;
	a.ids = (const uint32_t *)memory;
	a.weights = memory;
	bool ok = decode_experts_sum(&a, NULL) == -EINVAL;

	a.experts.n_slots = EXPERTS_SUM_SLOTS;
	a.last = &last;		/* of 40 outputs, not 48 */
	ok = ok && decode_experts_sum(&a, NULL) == -EINVAL;
	last.n = last.ldy = 48;
	last.n_rows = 2;	/* of two rows, not one */
	ok = ok && decode_experts_sum(&a, NULL) == -EINVAL;
	a.last = NULL;
	a.ids = NULL;
	ok = ok && decode_experts_sum(&a, NULL) == -EINVAL;
	claim("what_does_not_fit_is_refused", ok);
}

int main(int argc, char **argv)
{
	few = asked(argc, argv, "--few");
	if (!have_gpu())
		return 77;
	experts();
	refusals();
	return n_failed ? 1 : 0;
}
