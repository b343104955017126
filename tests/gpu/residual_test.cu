/* residual_test.cu - rows of the embedding and sums added to the residual stream, each with its norm,
 * against plain C: x to the bit, h within half an ulp; a row's bits are its own.
 * Exits 77 without a GPU; --few: fewer sizes, for the sanitizers. */
#include <errno.h>

#include "kernels/cuda/prefill_matmul.h"
#include "kernels/cuda/residual.h"
#include "tests/gpu/gpu_test.h"

static bool few;

static float f(__nv_bfloat16 x)
{
	return __bfloat162float(x);
}

/* Whether h is the norm of x, within half an ulp of bf16 and a hair for float32's own error. */
static bool is_norm(const __nv_bfloat16 *h, const __nv_bfloat16 *x, const __nv_bfloat16 *w, uint32_t width,
		    int ordered)
{
	double sum = 0;

	for (uint32_t i = 0; i < width; i++)
		sum += (double)f(x[i]) * f(x[i]);
	for (uint32_t i = 0; i < width; i++) {
		const double ref = f(x[i]) / std::sqrt(sum / width + 1e-6) * (1.0 + f(w[i]));
		const float got = f(h[ordered ? prefill_column(i) : i]);

		if (!(std::fabs(ref - got) <= std::fabs(ref) * (1.0 / 256 + 1e-5) + 1e-30))
			return false;
	}
	return true;
}

/* Tokens, last samples, and an id that there is not. */
static void embeds(void)
{
	const uint32_t vocab = 50, slots = 3;
	bool ok = true;

	for (uint32_t width : { 64u, 2048u, 4128u })
		for (int ordered = 0; ordered < 2; ordered++) {
			array<embed_row> rows(5);
			array<uint32_t> last(slots);
			array<__nv_bfloat16> embed((size_t)vocab * width), norm(width), x(rows.h.size() * width),
				h(x.h.size());
			const uint32_t id[] = { 7, 49, 0, 31, 7 };
			embed_rows_args a = { rows.d, last.d, embed.d, norm.d, x.d, h.d, 5, width, vocab, 1e-6f,
					      ordered };

			rows.h = { { 7, EMBED_TOKEN }, { 3, 1 }, { vocab, EMBED_TOKEN }, { 0, 2 },
				   { 7, EMBED_TOKEN } };
			last.h = { 1, 49, 31 };
			rows.up();
			last.up();
			embed.fill_bf16();
			norm.fill_bf16();
			ok = ok && embed_rows(&a, nullptr) == 0;
			CUDA(cudaDeviceSynchronize());
			x.down();
			h.down();
			for (uint32_t r = 0; r < 5; r++)
				ok = ok &&
				     !memcmp(&x.h[r * width], &embed.h[id[r] * width], width * 2) &&
				     is_norm(&h.h[r * width], &x.h[r * width], norm.h.data(), width, ordered);
			ok = ok && x.guarded() && h.guarded();
		}
	claim("rows_of_the_embedding_and_their_norm", ok);
}

struct sums {
	uint32_t rows, width, slots;
	bool weighed, y_bf16;
	int ordered;
};

/* The sum over slots of output i of row r, as residual.h has it. */
static float sum_of(const sums &c, const array<float> &y, const array<__nv_bfloat16> &y16,
		    const array<float> &weight, uint32_t r, uint32_t i)
{
	float sum = 0;

	for (uint32_t s = 0; s < c.slots; s++) {
		const size_t at = ((size_t)r * c.slots + s) * c.width + i;
		const float v = c.y_bf16 ? f(y16.h[at]) : y.h[at];

		if (!c.weighed)
			return v;
		sum = s ? fmaf(weight.h[r * c.slots + s], v, sum) : weight.h[r * c.slots] * v;
	}
	return sum;
}

static bool added(const sums &c)
{
	const size_t n = (size_t)c.rows * c.width;
	array<__nv_bfloat16> x(n), h(n), norm(c.width), y16(n * c.slots), x1(c.width), h1(c.width);
	array<float> y(n * c.slots), weight((size_t)c.rows * c.slots);
	std::vector<__nv_bfloat16> before;
	residual_add_args a = {};
	const uint32_t last = c.rows - 1;
	bool ok = true;

	x.fill_bf16();
	norm.fill_bf16();
	y16.fill_bf16();
	for (auto &v : y.h)
		v = uniform();
	for (auto &v : weight.h)
		v = uniform();
	y.up();
	weight.up();
	before = x.h;
	x1.h.assign(x.h.begin() + last * (size_t)c.width, x.h.end());
	x1.up();
	a.x = x.d;
	a.h = h.d;
	a.norm = norm.d;
	a.y = c.y_bf16 ? (const void *)y16.d : y.d;
	a.y_bf16 = c.y_bf16;
	a.weight = c.weighed ? weight.d : NULL;
	a.rows = c.rows;
	a.width = c.width;
	a.slots = c.slots;
	a.eps = 1e-6f;
	a.ordered = c.ordered;
	ok = residual_add(&a, nullptr) == 0;
	/* The last row alone. */
	a.x = x1.d;
	a.h = h1.d;
	a.y = (const char *)a.y + last * (size_t)c.slots * c.width * (c.y_bf16 ? 2 : 4);
	a.weight = c.weighed ? weight.d + last * c.slots : NULL;
	a.rows = 1;
	ok = ok && residual_add(&a, nullptr) == 0;
	CUDA(cudaDeviceSynchronize());
	x.down();
	h.down();
	x1.down();
	h1.down();
	for (uint32_t r = 0; r < c.rows; r++) {
		const size_t at = (size_t)r * c.width;

		for (uint32_t i = 0; i < c.width; i++) {
			const __nv_bfloat16 ref =
				__float2bfloat16_rn(f(before[at + i]) + sum_of(c, y, y16, weight, r, i));

			ok = ok && !memcmp(&ref, &x.h[at + i], 2);
		}
		ok = ok && is_norm(&h.h[at], &x.h[at], norm.h.data(), c.width, c.ordered);
	}
	return ok && !memcmp(x1.h.data(), &x.h[last * (size_t)c.width], c.width * 2) &&
	       !memcmp(h1.h.data(), &h.h[last * (size_t)c.width], c.width * 2) && x.guarded() && h.guarded();
}

/* One matrix's output, eight experts and the shared one, other numbers of slots; rows of one round and of
 * several. */
static void adds(void)
{
	for (uint32_t width : { 64u, 2048u, 2080u, 5120u, 16384u }) {
		bool ok = true;
		char name[64];

		if (few && width > 2080)
			continue;
		for (uint32_t rows : { 1u, 3u, 70u })
			for (uint32_t slots : { 1u, 2u, 9u, 16u })
				for (int how = 0; how < 8; how++) {
					const sums c = { rows, width, slots, (how & 1) || slots > 1,
							 (how & 2) != 0, (how & 4) != 0 };

					if (!((how & 1) && slots > 1) && !(rows == 70 && width > 5000))
						ok = ok && added(c);
				}
		snprintf(name, sizeof(name), "sums_are_added_in_order_width_%u", width);
		claim(name, ok);
	}
}

/* The words that it is told, and no others, in each of its forms. */
static void clears(void)
{
	static const uint32_t words = 5000;
	bool ok = true;

	for (uint32_t width : { 2048u, 4096u })
		for (uint32_t rows : { 1u, 3u })
			for (uint32_t slots : { 1u, 2u, 9u }) {
				const size_t n = (size_t)rows * width;
				array<__nv_bfloat16> x(n), h(n), norm(width);
				array<float> y(n * slots), weight(rows * slots);
				array<uint32_t> room(words);
				residual_add_args a = {};

				x.fill_bf16();
				norm.fill_bf16();
				CUDA(cudaMemset(y.d, 0, y.h.size() * 4));
				CUDA(cudaMemset(weight.d, 0, weight.h.size() * 4));
				CUDA(cudaMemset(room.d, 0xee, words * 4));
				a.x = x.d;
				a.h = h.d;
				a.norm = norm.d;
				a.y = y.d;
				a.weight = slots > 1 ? weight.d : NULL;
				a.rows = rows;
				a.width = width;
				a.slots = slots;
				a.eps = 1e-6f;
				a.clear = room.d + 4;
				a.n_clear = words - 8;
				ok = ok && residual_add(&a, nullptr) == 0;
				CUDA(cudaDeviceSynchronize());
				room.down();
				for (uint32_t i = 0; i < words; i++)
					ok = ok && room.h[i] == (i >= 4 && i < words - 4 ? 0 : 0xeeeeeeee);
			}
	claim("words_are_cleared_on_the_way", ok);
}

static void refuses(void)
{
	array<__nv_bfloat16> x(64);
	residual_add_args a = {};
	embed_rows_args e = {};

	a.x = a.h = x.d;
	a.norm = a.y = x.d;
	a.rows = 1;
	a.slots = 1;
	a.width = 60;
	bool ok = residual_add(&a, nullptr) == -EINVAL;
	a.width = RESIDUAL_MAX_WIDTH + 8;
	ok = ok && residual_add(&a, nullptr) == -EINVAL;
	a.width = 64;
	a.slots = 2;	/* and nothing to weigh them with */
	ok = ok && residual_add(&a, nullptr) == -EINVAL;
	a.slots = 1;
	a.n_clear = 4;	/* of nothing */
	ok = ok && residual_add(&a, nullptr) == -EINVAL;
	a.clear = (uint32_t *)x.d + 1;	/* off alignment */
	ok = ok && residual_add(&a, nullptr) == -EINVAL;
	a.clear = (uint32_t *)x.d;
	a.n_clear = 3;
	ok = ok && residual_add(&a, nullptr) == -EINVAL;
	e.n_rows = 1;
	e.width = 64;	/* no vocabulary */
	ok = ok && embed_rows(&e, nullptr) == -EINVAL;
	claim("odd_shapes_are_refused", ok);
}

int main(int argc, char **argv)
{
	few = asked(argc, argv, "--few");
	if (!have_gpu())
		return 77;
	embeds();
	adds();
	clears();
	refuses();
	return n_failed ? 1 : 0;
}
