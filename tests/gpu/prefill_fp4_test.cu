/* prefill_fp4_test.cu - the FP4 product of prompts: rows are quantised as kernels/fp4_row.h says, y
 * is the sum over what was quantised, a row's bits are its own.
 *
 * On sm_120 and sm_121 this runs the instruction.  Elsewhere its stand-in
 * (kernels/cuda/fp4_mma.cuh), so that a pass says all but that the instruction does what the manual
 * says; the first line tells which it was.  Exits 77 without a GPU; --few: fewer shapes, for the
 * sanitizers. */
#include "kernels/cuda/prefill_fp4.h"

#include <errno.h>

#include "kernels/cpu/ref_matmul.h"
#include "kernels/cuda/fp4_lane.h"
#include "kernels/fp4_row.h"
#include "tests/gpu/gpu_test.h"

typedef __nv_bfloat16 bf16;

/* The stand-in accumulates in float32; the instruction may keep fewer bits. */
static bool native;

static double tolerance(uint32_t k)
{
	return native ? PREFILL_FP4_TOLERANCE(k) : 6e-6;
}

struct matrix {
	uint32_t n, k;
	std::vector<unsigned char> codes, scales;
	array<unsigned char> packed;
	array<float> factor;
	struct ref_weights ref = {};

	matrix(uint32_t n_, uint32_t k_)
	    : n(n_), k(k_), codes((size_t)n * k / 2), scales((size_t)n * k / 16),
	      packed(matmul_packed_bytes(MATMUL_NVFP4, n_, k_)), factor((n_ + 15) / 16 * 16)
	{
		for (auto &x : codes)
			x = (unsigned char)rng();
		for (auto &x : scales) /* zero and negative ones too */
			x = (unsigned char)(rng() % 20 ? rng() % 0x7f : rng() % 2 * 0x80);
		for (auto &x : factor.h)
			x = 0.01f * (0.5f + (float)(rng() % 1000) / 1000);
		if (matmul_pack_nvfp4(codes.data(), scales.data(), n, k, packed.h.data()))
			claim("packs", false);
		packed.up();
		factor.up();
		ref.fp4 = codes.data();
		ref.fp4_scale = scales.data();
		ref.global = 1;
		ref.n = n;
		ref.k = k;
	}
};

/* Rows of x, as numbers and quantised by the reference; on the device in prefill order. */
struct rows_of_x {
	uint32_t n, k, ld;
	std::vector<float> h;
	std::vector<uint8_t> codes, scales;
	std::vector<float> power;
	array<bf16> d;

	rows_of_x(uint32_t n_, uint32_t k_, uint32_t ld_)
	    : n(n_), k(k_), ld(ld_), h((size_t)n * k), codes((size_t)n * k / 2),
	      scales((size_t)n * k / 16), power(n), d((size_t)n * ld)
	{
		for (size_t r = 0; r < n; r++) {
			const int e = (int)(rng() % 60) - 30, wide = rng() % 4 ? 4 : 24;

			for (uint32_t c = 0; c < ld; c++) {
				const float x =
					c >= k ?
						NAN :
					rng() % 50 == 0 ?
						0 :
						to_bf16(ldexpf(uniform(), e - (int)(rng() % wide)));

				if (c < k)
					h[r * k + c] = x;
				d.h[r * ld + prefill_column(c)] = __float2bfloat16_rn(x);
			}
			fp4_row(&h[r * k], k, &codes[r * k / 2], &scales[r * k / 16], &power[r]);
		}
		d.up();
	}
	double at(size_t r, uint32_t c) const
	{
		return (double)ref_e2m1((uint8_t)(codes[(r * k + c) / 2] >> c % 2 * 4 & 15)) *
		       (double)ref_e4m3(scales[(r * k + c) / 16]) * (double)power[r];
	}
};

static double dot(const matrix &m, uint32_t row, const rows_of_x &x, size_t r, double *ret_size)
{
	double sum = 0;

	*ret_size = 0;
	for (uint32_t c = 0; c < m.k; c++) {
		const double p = ref_weight(&m.ref, row, c) * x.at(r, c) * (double)m.factor.h[row];

		sum += p;
		*ret_size += std::fabs(p);
	}
	return sum;
}

static bool near(uint32_t k, double want, double size, double got)
{
	return std::fabs(want - got) <= size * tolerance(k) + std::fabs(want) * 2e-7 + 1e-30;
}

static float silu_times(float g, float u)
{
	return g / (1 + std::exp(-g)) * u;
}

/* Codes, scales and powers as the reference has them; padding zero. */
static bool as_reference(const rows_of_x &x, const array<char> &room)
{
	const size_t padded = fp4_padded(x.k);
	const uint8_t *codes = (const uint8_t *)room.h.data(), *scales = codes + x.n * padded / 2;
	const float *power = (const float *)(scales + x.n * padded / 16);
	bool same = true;

	for (size_t r = 0; r < x.n; r++) {
		same = same && !memcmp(&power[r], &x.power[r], 4);
		for (size_t c = 0; c < padded; c += 8)
			for (uint32_t i = 0; i < 8; i++) {
				const size_t at = c + fp4_column(i);
				const uint8_t got =
					codes[(r * padded + c) / 2 + i / 2] >> i % 2 * 4 & 15;

				same = same && got == (at < x.k ? x.codes[(r * x.k + at) / 2] >>
										  at % 2 * 4 &
									  15 :
								  0);
			}
		for (size_t b = 0; b < padded / 16; b++)
			same = same && scales[r * padded / 16 + b] ==
					       (b < x.k / 16 ? x.scales[r * x.k / 16 + b] : 0);
	}
	return same;
}

template <typename T>
static std::vector<T> dense(const matrix &m, const rows_of_x &x, uint32_t first, uint32_t rows,
			    enum matmul_out out, uint32_t ldy, bool *ok)
{
	array<char> room(fp4_rows_bytes(rows, m.k));
	const struct fp4_rows q = fp4_rows_at(room.d, rows, m.k);
	array<T> y((size_t)rows * ldy);
	struct decode_matmul_args a = {};

	CUDA(cudaMemset(y.d, 0xff, y.h.size() * sizeof(T)));
	CUDA(cudaMemset(room.d, 0xff, room.h.size()));
	a.w = m.packed.d;
	a.y = y.d;
	a.n_rows = rows;
	a.n = m.n;
	a.k = m.k;
	a.ldy = ldy;
	a.row_scale = m.factor.d;
	a.format = MATMUL_NVFP4;
	a.out = out;
	*ok = *ok &&
	      prefill_fp4_quantise(x.d.d + (size_t)first * x.ld, rows, x.k, x.ld, NULL, &q,
				   nullptr) == 0 &&
	      prefill_fp4_matmul(&a, &q, nullptr) == 0;
	CUDA(cudaDeviceSynchronize());
	y.down();
	*ok = *ok && y.guarded() && room.guarded();
	return y.h;
}

static void rows_test(uint32_t n, uint32_t k, uint32_t ld)
{
	rows_of_x x(n, k, ld);
	array<char> room(fp4_rows_bytes(n, k));
	const struct fp4_rows q = fp4_rows_at(room.d, n, k);

	CUDA(cudaMemset(room.d, 0xff, room.h.size()));
	bool ok = prefill_fp4_quantise(x.d.d, n, k, ld, NULL, &q, nullptr) == 0;
	CUDA(cudaDeviceSynchronize());
	room.down();
	printf("  %u rows of %u\n", n, k);
	claim("rows_are_the_references", ok && room.guarded() && as_reference(x, room));
}

static void dense_test(uint32_t n, uint32_t k, uint32_t rows)
{
	matrix m(n, k);
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
		double size, want = dot(m, c, x, r, &size);

		right = right && near(k, want, size, (double)f32[(size_t)r * ldy + c]);
		if (pairs) {
			const uint32_t t = c / 16 * 8 + c % 8, g = c / 16 * 16 + c % 8;
			const float v =
				silu_times(f32[(size_t)r * ldy + g], f32[(size_t)r * ldy + g + 8]);
			const float got =
				__bfloat162float(act[(size_t)r * lds + prefill_column(t)]);

			gated = gated && (std::fabs(v - got) <= std::fabs(v) / 128 + 1e-30f ||
					  std::isinf(v));
		}
	}
	for (uint32_t r = 0; r < rows; r++) {
		for (uint32_t c = 0; c < n; c++)
			once = once && __bfloat16_as_ushort(b16[(size_t)r * n + c]) ==
					       __bfloat16_as_ushort(__float2bfloat16_rn(
						       f32[(size_t)r * ldy + c]));
		for (uint32_t c = n; c < ldy; c++)
			clean = clean && f32[(size_t)r * ldy + c] != f32[(size_t)r * ldy + c];
	}
	for (int i = 0; i < 5; i++) { /* another place, other neighbours, another number of rows */
		const uint32_t first = rng() % rows, some = 1 + rng() % (rows - first);
		auto part = dense<float>(m, x, first, some, MATMUL_OUT_F32, ldy, &ok);

		for (uint32_t r = 0; r < some; r++)
			same = same && !memcmp(&part[(size_t)r * ldy],
					       &f32[(size_t)(first + r) * ldy], n * 4);
	}
	printf("  %u x %u, %u rows\n", n, k, rows);
	claim("launches_and_keeps_to_its_place", ok && clean);
	claim("y_is_w_x", right);
	claim("bf16_is_rounded_once", once);
	claim("swiglu_is_of_the_sums", gated);
	claim("bits_are_the_rows_own", same);
}

static void experts_test(uint32_t n_experts, uint32_t n_slots, uint32_t n, uint32_t k,
			 uint32_t rows, bool per_slot)
{
	std::vector<matrix *> m;
	rows_of_x x(per_slot ? rows * n_slots : rows, k, k);
	const size_t each = matmul_packed_bytes(MATMUL_NVFP4, n, k), tall = (n + 15) / 16 * 16;
	array<unsigned char> w(each * n_experts), mem(prefill_list_bytes(rows, n_slots, n_experts));
	array<float> factor(tall * n_experts), y((size_t)rows * n_slots * n);
	array<uint32_t> ids(rows * n_slots);
	array<char> room(fp4_rows_bytes(x.n, k));
	const struct fp4_rows q = fp4_rows_at(room.d, x.n, k);
	struct prefill_list list = prefill_list_at(mem.d, rows, n_slots, n_experts);
	struct decode_experts_args a = {};
	bool ok, right = true, untouched = true;

	for (uint32_t e = 0; e < n_experts; e++) {
		m.push_back(new matrix(n, k));
		memcpy(&w.h[each * e], m[e]->packed.h.data(), each);
		memcpy(&factor.h[tall * e], m[e]->factor.h.data(), tall * 4);
	}
	w.up();
	factor.up();
	for (uint32_t r = 0; r < rows; r++)
		for (uint32_t s = 0; s < n_slots;
		     s++) /* uneven: low ids are many's, the last is left out */
			ids.h[r * n_slots + s] =
				s == n_slots - 1 && r % 2 ?
					n_experts + 5 :
					(s + rng() % 3 * (r % n_experts)) % n_experts;
	ids.up();
	CUDA(cudaMemset(mem.d, 0xff, mem.h.size()));
	CUDA(cudaMemset(y.d, 0xff, y.h.size() * 4));
	CUDA(cudaMemset(room.d, 0xff, room.h.size()));
	a.w = w.d;
	a.row_scale = factor.d;
	a.format = MATMUL_NVFP4;
	a.y = y.d;
	a.n_rows = rows;
	a.n_slots = n_slots;
	a.n_experts = n_experts;
	a.n = a.ldy = n;
	a.k = k;
	a.x_per_slot = per_slot;
	a.out = MATMUL_OUT_F32;
	ok = prefill_list_build(ids.d, rows, n_slots, n_experts, &list, nullptr) == 0 &&
	     prefill_fp4_quantise(x.d.d, x.n, k, k, per_slot ? &list : NULL, &q, nullptr) == 0 &&
	     prefill_fp4_experts(&a, &list, &q, nullptr) == 0;
	CUDA(cudaDeviceSynchronize());
	y.down();
	room.down();
	ok = ok && y.guarded() && mem.guarded() && room.guarded();
	for (int i = 0; i < 1500; i++) {
		const uint32_t pair = rng() % (rows * n_slots), e = ids.h[pair], c = rng() % n;
		const float got = y.h[(size_t)pair * n + c];
		double size;

		if (e >= n_experts) {
			untouched = untouched && got != got;
			if (per_slot)
				untouched = untouched && !memcmp(&room.h[pair * fp4_padded(k) / 2],
								 "\xff\xff\xff\xff", 4);
		} else {
			const double want =
				dot(*m[e], c, x, per_slot ? pair : pair / n_slots, &size);

			right = right && near(k, want, size, (double)got);
		}
	}
	for (auto *p : m)
		delete p;
	printf("  %u experts of %u x %u, %u rows\n", n_experts, n, k, rows);
	claim("launches_and_keeps_to_its_place", ok);
	claim("a_pair_is_its_experts_w_x", right);
	claim("pairs_off_the_list_are_left_alone", untouched);
}

/* A NaN and an infinity in x: NaN in every output of those rows, nowhere else. */
static void broken_test(void)
{
	matrix m(64, 256);
	rows_of_x x(40, 256, 256);
	bool ok = true, right = true;

	x.d.h[7 * 256 + 100] = __ushort_as_bfloat16(0x7fc0);
	x.d.h[33 * 256 + 3] = __ushort_as_bfloat16(0xff80);
	x.d.up();
	auto y = dense<float>(m, x, 0, 40, MATMUL_OUT_F32, 64, &ok);
	for (size_t i = 0; i < y.size(); i++)
		right = right && (y[i] != y[i]) == (i / 64 == 7 || i / 64 == 33);
	claim("what_is_broken_stays_broken", ok && right);
}

static void refusals_test(void)
{
	matrix m(32, 64);
	rows_of_x x(4, 64, 64);
	array<char> room(fp4_rows_bytes(4, 64));
	const struct fp4_rows q = fp4_rows_at(room.d, 4, 64);
	array<float> y(4 * 32);
	struct decode_matmul_args a = {};

	a.w = m.packed.d;
	a.y = y.d;
	a.n_rows = 4;
	a.n = a.ldy = 32;
	a.k = 64;
	a.format = MATMUL_BF16;
	a.out = MATMUL_OUT_F32;
	bool ok = prefill_fp4_matmul(&a, &q, nullptr) == -EINVAL;
	a.format = MATMUL_NVFP4;
	a.k = 72;
	ok = ok && prefill_fp4_matmul(&a, &q, nullptr) == -EINVAL;
	ok = ok && prefill_fp4_quantise(x.d.d, 4, 48, 64, NULL, &q, nullptr) == -EINVAL &&
	     prefill_fp4_quantise(x.d.d, 4, 64, 32, NULL, &q, nullptr) == -EINVAL &&
	     prefill_fp4_quantise(x.d.d, 0, 64, 64, NULL, &q, nullptr) == -EINVAL;
	claim("what_does_not_fit_is_refused", ok);
}

int main(int argc, char **argv)
{
	const bool few = asked(argc, argv, "--few");
	char text[PREFILL_FP4_TEXT];

	if (!have_gpu())
		return 77;
	native = prefill_fp4_here();
	printf("%s\n", native ? "the instruction of this chip" :
				"NOT the instruction: this chip has none, its stand-in is run");
	const int rc = prefill_fp4_check(text, nullptr);
	printf("  %s\n", text);
	claim("the_load_time_check_passes", rc == 0);
	rows_test(1, 32, 32);
	rows_test(77, 544, 576);
	if (!few) {
		rows_test(300, 2048, 2048);
		rows_test(9, 17408, 17408);
	}
	broken_test();
	refusals_test();
	for (uint32_t rows : { 1u, 64u, 100u, 300u })
		if (!few || rows > 64)
			dense_test(few ? 80 : 400, 512, rows);
	dense_test(41, 96, 70);
	experts_test(12, 5, 80, 256, 300, false);
	if (few) {
		dense_test(300, 96, 5700); /* blocks of 256 rows */
		return n_failed ? 1 : 0;
	}
	dense_test(176, 1312, 530);
	dense_test(2048, 1024, 2100); /* the same */
	experts_test(12, 5, 96, 320, 700, false);
	experts_test(20, 4, 256, 128, 900, true);
	return n_failed ? 1 : 0;
}
