/* prefill_matmul_test.cu - the prompt's matrix kernels compute W x, a row's bits are its own, and how fast.
 *
 *	prefill_matmul_test [--bench | --bench-only | --few]	--few: fewer shapes, for the sanitizers
 * Exits 77 without a GPU. */
#include "kernels/cuda/prefill_matmul.h"

#include "kernels/cpu/ref_matmul.h"
#include "tests/gpu/gpu_test.h"

typedef __nv_bfloat16 bf16;

static double f(bf16 x)
{
	return (double)__bfloat162float(x);
}

static unsigned char some_e4m3(void)
{
	const unsigned char v = (unsigned char)rng();

	return (v & 0x7f) == 0x7f ? 0 : v;
}

/* Random weights [n][k] and their packed form. */
struct matrix {
	enum matmul_format format;
	uint32_t n, k;
	std::vector<bf16> h;
	std::vector<unsigned char> codes, block_scale;
	std::vector<float> fp8_scale;
	struct ref_weights ref;
	array<unsigned char> packed;
	array<float> row_scale;		/* not for BF16 */

	matrix(enum matmul_format f_, uint32_t n_, uint32_t k_)
		: format(f_), n(n_), k(k_), ref(), packed(matmul_packed_bytes(f_, n_, k_)), row_scale((n_ + 15) / 16 * 16)
	{
		const int rc = f_ == MATMUL_BF16 ? make_bf16() : f_ == MATMUL_FP8 ? make_fp8() : make_nvfp4();

		if (rc)
			claim("packs", false);
		packed.up();
		for (float &x : row_scale.h)
			x = (0.5f + (float)(rng() % 1000) / 1000) * (f_ == MATMUL_NVFP4 ? 0.01f : 1.0f);
		row_scale.up();
		ref.n = n;
		ref.k = k;
		ref.global = 1;
	}
	int make_bf16(void)
	{
		h.resize((size_t)n * k);
		for (auto &x : h)
			x = __float2bfloat16_rn(uniform());
		ref.bf16 = (const uint16_t *)h.data();
		return matmul_pack_bf16(ref.bf16, n, k, packed.h.data());
	}
	/* Scales of all sizes, and zero. */
	int make_fp8(void)
	{
		codes.resize((size_t)n * k);
		for (auto &x : codes)
			x = some_e4m3();
		fp8_scale.resize((size_t)((n + 127) / 128) * ((k + 127) / 128));
		for (auto &x : fp8_scale)
			x = rng() % 9 ? ldexpf(uniform(), (int)(rng() % 24) - 12) : rng() % 2 ? 0 : ldexpf(1, -90);
		ref.fp8 = codes.data();
		ref.fp8_scale = fp8_scale.data();
		return matmul_pack_fp8(codes.data(), fp8_scale.data(), n, k, packed.h.data());
	}
	int make_nvfp4(void)
	{
		codes.resize((size_t)n * k / 2);
		for (auto &x : codes)
			x = (unsigned char)rng();
		block_scale.resize((size_t)n * k / 16);
		for (auto &x : block_scale)
			x = some_e4m3();
		ref.fp4 = codes.data();
		ref.fp4_scale = block_scale.data();
		return matmul_pack_nvfp4(codes.data(), block_scale.data(), n, k, packed.h.data());
	}
	const float *scales(void) const { return format == MATMUL_BF16 ? nullptr : row_scale.d; }
	double dot(uint32_t row, const bf16 *x, double *size) const
	{
		const double scale = format == MATMUL_BF16 ? 1 : (double)row_scale.h[row];
		double sum;

		ref_matmul_dot(&ref, row, (const uint16_t *)x, &sum, size);
		*size *= scale;
		return sum * scale;
	}
};

/* Rows of x and, on the device, the same in prefill order. */
struct rows_of_x {
	uint32_t n, ld;
	std::vector<bf16> h;
	array<bf16> d;

	rows_of_x(uint32_t n_, uint32_t k, uint32_t ld_) : n(n_), ld(ld_), h((size_t)n * ld), d((size_t)n * ld)
	{
		for (size_t i = 0; i < h.size(); i++) {
			h[i] = __float2bfloat16_rn(i % ld < k ? uniform() : NAN);
			d.h[i / ld * ld + prefill_column((uint32_t)(i % ld))] = h[i];
		}
		d.up();
	}
};

static bool near(double want, double size, double got, double ulp)
{
	return std::fabs(want - got) <= size * 6e-6 + std::fabs(want) * ulp + 1e-30;
}

static double silu_times(double g, double u)
{
	return g / (1 + std::exp(-g)) * u;
}

/* A dense product of `rows` rows taken from `first` on; y poisoned. */
template <typename T>
static std::vector<T> dense(const matrix &m, const rows_of_x &x, uint32_t first, uint32_t rows, enum matmul_out out, uint32_t ldy,
			    bool *ok)
{
	array<T> y((size_t)rows * ldy);
	struct decode_matmul_args a = {};

	CUDA(cudaMemset(y.d, 0xff, y.h.size() * sizeof(T)));
	a.w = m.packed.d;
	a.x = x.d.d + (size_t)first * x.ld;
	a.y = y.d;
	a.n_rows = rows;
	a.n = m.n;
	a.k = m.k;
	a.ldx = x.ld;
	a.ldy = ldy;
	a.row_scale = m.scales();
	a.format = m.format;
	a.out = out;
	*ok = *ok && prefill_matmul(&a, nullptr) == 0;
	CUDA(cudaDeviceSynchronize());
	y.down();
	*ok = *ok && y.guarded();
	return y.h;
}

static void dense_test(enum matmul_format format, uint32_t n, uint32_t k, uint32_t rows)
{
	matrix m(format, n, k);
	rows_of_x x(rows, k, (k + 31) / 32 * 32 + 32);
	const bool pairs = n % 16 == 0;
	const uint32_t ldy = n + 3, lds = (n / 2 + 31) / 32 * 32;
	bool ok = true, right = true, once = true, gated = true, same = true, clean = true;

	auto f32 = dense<float>(m, x, 0, rows, MATMUL_OUT_F32, ldy, &ok);
	auto b16 = dense<bf16>(m, x, 0, rows, MATMUL_OUT_BF16, n, &ok);
	std::vector<bf16> act;
	if (pairs)
		act = dense<bf16>(m, x, 0, rows, MATMUL_OUT_SWIGLU, lds, &ok);
	for (int i = 0; i < 400; i++) {
		const uint32_t r = rng() % rows, c = rng() % n;
		double size, want = m.dot(c, &x.h[(size_t)r * x.ld], &size);

		if (right && !near(want, size, (double)f32[(size_t)r * ldy + c], 0)) {
			right = false;
			printf("row %u, output %u: %g, not %g (sizes %g)\n", r, c, (double)f32[(size_t)r * ldy + c], want, size);
			for (uint32_t b = 0; format == MATMUL_FP8 && b < (k + 127) / 128; b++)
				printf("scale %u: %g\n", b, (double)m.fp8_scale[c / 128 * ((k + 127) / 128) + b]);
		}
		if (pairs) {
			const uint32_t t = c / 16 * 8 + c % 8, g = c / 16 * 16 + c % 8;
			const double gate = (double)f32[(size_t)r * ldy + g], up = (double)f32[(size_t)r * ldy + g + 8];

			gated = gated && near(silu_times(gate, up), 0, f(act[(size_t)r * lds + prefill_column(t)]), 1.0 / 256);
		}
	}
	for (uint32_t r = 0; r < rows; r++) {
		for (uint32_t c = 0; c < n; c++)
			once = once && __bfloat16_as_ushort(b16[(size_t)r * n + c]) ==
					       __bfloat16_as_ushort(__float2bfloat16_rn(f32[(size_t)r * ldy + c]));
		for (uint32_t c = n; c < ldy; c++)
			clean = clean && f32[(size_t)r * ldy + c] != f32[(size_t)r * ldy + c];
	}
	for (int i = 0; i < 5; i++) {	/* another place, other neighbours, another number of rows */
		const uint32_t first = rng() % rows, most = rows - first, some = 1 + rng() % most;
		auto part = dense<float>(m, x, first, some, MATMUL_OUT_F32, ldy, &ok);

		for (uint32_t r = 0; r < some; r++)
			same = same && !memcmp(&part[(size_t)r * ldy], &f32[(size_t)(first + r) * ldy], n * 4);
	}
	printf("  %s %u x %u, %u rows\n", matmul_format_name(format), n, k, rows);
	claim("launches_and_keeps_to_its_place", ok && clean);
	claim("y_is_w_x", right);
	claim("bf16_is_rounded_once", once);
	claim("swiglu_is_of_the_sums", gated);
	claim("bits_are_the_rows_own", same);
}

/* What an experts' product gives the first `rows` rows; y poisoned. */
static std::vector<unsigned char> experts(struct decode_experts_args a, const array<uint32_t> &ids, uint32_t rows, bool *ok)
{
	const size_t bytes = (size_t)rows * a.n_slots * a.ldy * (a.out == MATMUL_OUT_F32 ? 4 : 2);
	array<unsigned char> mem(prefill_list_bytes(rows, a.n_slots, a.n_experts)), y(bytes);
	struct prefill_list list = prefill_list_at(mem.d, rows, a.n_slots, a.n_experts);

	CUDA(cudaMemset(mem.d, 0xff, mem.h.size()));
	CUDA(cudaMemset(y.d, 0xff, bytes));
	a.y = y.d;
	a.n_rows = rows;
	*ok = *ok && prefill_list_build(ids.d, rows, a.n_slots, a.n_experts, &list, nullptr) == 0;
	for (int i = 0; i < 2; i++)	/* a list is used more than once */
		*ok = *ok && prefill_experts(&a, &list, nullptr) == 0;
	CUDA(cudaDeviceSynchronize());
	y.down();
	*ok = *ok && y.guarded() && mem.guarded();
	return y.h;
}

static void experts_test(enum matmul_format format, uint32_t n_experts, uint32_t n_slots, uint32_t n, uint32_t k, uint32_t rows,
			 bool per_slot, bool swiglu)
{
	std::vector<matrix *> m;
	rows_of_x x(per_slot ? rows * n_slots : rows, k, k);
	const size_t each = matmul_packed_bytes(format, n, k), tall = (n + 15) / 16 * 16;
	array<unsigned char> w(each * n_experts);
	array<float> row_scale(tall * n_experts);
	array<uint32_t> ids(rows * n_slots);
	const uint32_t ldy = swiglu ? (n / 2 + 31) / 32 * 32 : n;
	struct decode_experts_args a = {};
	bool ok = true, right = true, same = true, once = true;

	for (uint32_t e = 0; e < n_experts; e++) {
		m.push_back(new matrix(format, n, k));
		memcpy(&w.h[each * e], m[e]->packed.h.data(), each);
		memcpy(&row_scale.h[tall * e], m[e]->row_scale.h.data(), tall * 4);
	}
	w.up();
	row_scale.up();
	for (uint32_t r = 0; r < rows; r++)
		for (uint32_t s = 0; s < n_slots; s++)	/* uneven: low ids are many's, the last is left out */
			ids.h[r * n_slots + s] = s == n_slots - 1 && r % 2 ? n_experts + 5
					       : (s + rng() % 3 * (r % n_experts)) % n_experts;
	ids.up();
	a.w = w.d;
	a.row_scale = format == MATMUL_BF16 ? nullptr : row_scale.d;
	a.format = format;
	a.x = x.d.d;
	a.n_slots = n_slots;
	a.n_experts = n_experts;
	a.n = n;
	a.k = a.ldx = k;
	a.ldy = ldy;
	a.x_per_slot = per_slot;
	a.out = swiglu ? MATMUL_OUT_SWIGLU : MATMUL_OUT_F32;
	const std::vector<unsigned char> all = experts(a, ids, rows, &ok);
	const float *y = (const float *)all.data();
	const bf16 *y16 = (const bf16 *)all.data();
	/* With fewer pairs the kernels and the tiles are others: of all sizes. */
	for (uint32_t some : { rows - 1, rows * 2 / 3, rows / 3, std::min(rows, n_experts * 50 / n_slots), 7u }) {
		const std::vector<unsigned char> part = experts(a, ids, some, &ok);

		same = same && !memcmp(part.data(), all.data(), part.size());
	}
	for (int i = 0; i < 1000; i++) {
		const uint32_t pair = rng() % (rows * n_slots), e = ids.h[pair], c = rng() % n;
		const bf16 *row = &x.h[(size_t)(per_slot ? pair : pair / n_slots) * x.ld];
		double size, up_size;

		if (e >= n_experts) {
			const double v = swiglu ? f(y16[(size_t)pair * ldy]) : (double)y[(size_t)pair * ldy];

			right = right && v != v;	/* untouched */
		} else if (!swiglu) {
			const double want = m[e]->dot(c, row, &size);

			right = right && near(want, size, (double)y[(size_t)pair * ldy + c], 0);
		} else {
			const uint32_t g = c / 16 * 16 + c % 8, t = c / 16 * 8 + c % 8;
			const double gate = m[e]->dot(g, row, &size), up = m[e]->dot(g + 8, row, &up_size);

			right = right && near(silu_times(gate, up), 30 * (size + up_size),
					      f(y16[(size_t)pair * ldy + prefill_column(t)]), 1.0 / 256);
		}
	}
	if (!swiglu) {	/* bfloat16: float32 rounded once */
		a.out = MATMUL_OUT_BF16;
		const std::vector<unsigned char> rounded = experts(a, ids, rows, &ok);
		const uint16_t *b = (const uint16_t *)rounded.data();

		for (size_t i = 0; i < (size_t)rows * n_slots * ldy; i++)
			once = once && (ids.h[i / ldy] >= n_experts ? b[i] == 0xffff
						: b[i] == __bfloat16_as_ushort(__float2bfloat16_rn(y[i])));
	}
	for (auto *p : m)
		delete p;
	printf("  %s, %u experts of %u x %u, %u rows\n", matmul_format_name(format), n_experts, n, k, rows);
	claim("launches_and_keeps_to_its_place", ok);
	claim("a_pair_is_its_experts_w_x", right);
	claim("bits_are_the_pairs_own", same);
	claim("bf16_is_rounded_once", once);
}

static void order_test(void)
{
	rows_of_x x(5, 96, 96);
	array<bf16> y(x.h.size());

	y.h = x.h;
	y.up();
	bool ok = prefill_order(y.d, 5, 96, nullptr) == 0;
	CUDA(cudaDeviceSynchronize());
	y.down();
	claim("columns_are_put_in_order", ok && y.guarded() && !memcmp(y.h.data(), x.d.h.data(), y.h.size() * 2));
}

/* ---- speed ----------------------------------------------------------------------- */

static void bench_row(const char *name, double flops, double ms)
{
	printf("| %s | %.3f | %.0f |\n", name, ms, flops / ms / 1e9);
}

static void bench(enum matmul_format format, uint32_t rows)
{
	const uint32_t K = 2048, E = 256, SLOTS = 8, I = 512;
	array<unsigned char> w((size_t)E * matmul_packed_bytes(MATMUL_BF16, 2 * I, K)), mem(prefill_list_bytes(rows, 9, E + 1));
	array<bf16> x((size_t)rows * SLOTS * 4096), y((size_t)rows * SLOTS * 4096);
	array<uint32_t> ids(rows * SLOTS);
	struct prefill_list list = prefill_list_at(mem.d, rows, SLOTS, E);
	struct decode_matmul_args a = {};
	struct decode_experts_args e = {};
	char name[64];

	CUDA(cudaMemset(w.d, 0x3c, w.h.size()));
	x.fill_bf16();
	for (uint32_t r = 0; r < rows; r++)
		for (uint32_t s = 0; s < SLOTS; s++)
			ids.h[r * SLOTS + s] = (rng() % 32) * 8 + s;
	ids.up();
	printf("\n%s, %u rows\n\n| product | ms | TFLOP/s |\n|---|--:|--:|\n", matmul_format_name(format), rows);
	for (auto shape : { std::pair<uint32_t, uint32_t>{ 12352, K }, { K, 4096 }, { 9216, K }, { 1297, K } }) {
		a.w = w.d;
		a.x = x.d;
		a.y = y.d;
		a.n_rows = rows;
		a.n = a.ldy = shape.first;
		a.k = a.ldx = shape.second;
		a.format = format;
		a.out = MATMUL_OUT_BF16;
		snprintf(name, sizeof(name), "%u x %u", a.n, a.k);
		bench_row(name, 2.0 * rows * a.n * a.k, graph_ms(10, [&](cudaStream_t s) { prefill_matmul(&a, s); }));
	}
	bench_row("list", 0, graph_ms(10, [&](cudaStream_t s) { prefill_list_build(ids.d, rows, SLOTS, E, &list, s); }));
	e.w = w.d;
	e.x = x.d;
	e.y = y.d;
	e.n_rows = rows;
	e.n_slots = SLOTS;
	e.n_experts = E;
	e.n = 2 * I;
	e.k = e.ldx = K;
	e.ldy = I;
	e.format = format;
	e.out = MATMUL_OUT_SWIGLU;
	bench_row("experts gate, up", 2.0 * rows * SLOTS * e.n * e.k,
		  graph_ms(10, [&](cudaStream_t s) { prefill_experts(&e, &list, s); }));
	e.n = e.ldy = K;
	e.k = e.ldx = I;
	e.x_per_slot = 1;
	e.out = MATMUL_OUT_BF16;
	bench_row("experts down", 2.0 * rows * SLOTS * e.n * e.k,
		  graph_ms(10, [&](cudaStream_t s) { prefill_experts(&e, &list, s); }));
}

static int bench_all(void)
{
	for (enum matmul_format f : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 })
		for (uint32_t rows : { 2048u, 8192u })
			bench(f, rows);
	return 0;
}

int main(int argc, char **argv)
{
	if (!have_gpu())
		return 77;
	if (argc > 1 && !strcmp(argv[1], "--bench-only")) {
		for (enum matmul_format f : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 }) {
			dense_test(f, 2064, 352, 3333);
			experts_test(f, 12, 5, 80, 256, 300, false, false);
		}
		return bench_all();
	}
	order_test();
	for (enum matmul_format f : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 }) {
		if (asked(argc, argv, "--few")) {
			dense_test(f, 80, 512, 100);
			dense_test(f, 300, 96, 5700);	/* tiles of 256 rows */
			experts_test(f, 12, 5, 96, 320, 100, false, true);
			experts_test(f, 12, 5, 80, 256, 300, true, false);	/* enough pairs for prefill_pairs() */
			continue;
		}
		for (uint32_t rows : { 1u, 64u, 100u, 129u, 255u, 300u, 1000u })
			dense_test(f, 400, 512, rows);
		dense_test(f, 41, 96, 70);
		dense_test(f, 176, 1312, 530);
		dense_test(f, 2048, 4096, 600);
		dense_test(f, 2064, 352, 3333);		/* tiles of 256 rows, 17 blocks of rows of W */
		dense_test(f, 1300, 2048, 6000);
		experts_test(f, 12, 5, 80, 256, 300, false, false);
		experts_test(f, 12, 5, 96, 320, 700, false, true);
		experts_test(f, 20, 4, 256, 128, 900, true, false);
		experts_test(f, 5, 4, 512, 512, 2500, true, false);	/* experts of up to 2,500 pairs */
		experts_test(f, 5, 4, 1024, 256, 2500, false, true);
		experts_test(f, 40, 6, 272, 1056, 1500, false, false);
	}
	if (argc > 1 && !strcmp(argv[1], "--bench"))
		bench_all();
	return n_failed ? 1 : 0;
}
