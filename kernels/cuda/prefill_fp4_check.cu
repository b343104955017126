/* prefill_fp4_check.cu - see prefill_fp4.h: a chip is asked whether its FP4 product is the
 * reference's.
 *
 * Two trials, each as a dense product (64 columns wide) and as experts with few and many pairs (64
 * and 256 wide): "one block": a row of W has weights in one block of 16 only, scales are powers of
 * two that differ from block to block and row to row, so that every sum is exact and a scale taken
 * from another place shows as a factor; "random": all codes, all scales.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <vector>

#include "kernels/cpu/dequant.h"
#include "kernels/cuda/decode_matmul_int.cuh"
#include "kernels/cuda/fp4_lane.h"
#include "kernels/cuda/prefill_fp4.h"
#include "kernels/fp4_row.h"

namespace {

constexpr uint32_t N = 144, K = 544, ROWS = 150, EXPERTS = 3, SLOTS = 2;

struct random_bits {
	uint32_t state;

	uint32_t next(void)
	{
		state = state * 1664525u + 1013904223u;
		return state >> 8;
	}
};

/* Device memory that goes when the check ends. */
struct pool {
	std::vector<void *> all;
	bool failed = false, full = false; /* full: for want of memory */

	~pool()
	{
		for (void *p : all)
			cudaFree(p);
	}
	template <typename T> T *take(const T *from, size_t n)
	{
		T *p = NULL;

		if (failed)
			return NULL;
		if (cudaMalloc((void **)&p, n * sizeof(T)) != cudaSuccess) {
			cudaGetLastError();
			failed = full = true;
			return NULL;
		}
		all.push_back(p);
		failed = (from ? cudaMemcpy(p, from, n * sizeof(T), cudaMemcpyHostToDevice) :
				 cudaMemset(p, 0xff, n * sizeof(T))) != cudaSuccess;
		return p;
	}
	template <typename T> bool back(std::vector<T> *to, const T *from)
	{
		failed = failed || cudaMemcpy(to->data(), from, to->size() * sizeof(T),
					      cudaMemcpyDeviceToHost) != cudaSuccess;
		return !failed;
	}
};

/* Weights of all experts as a checkpoint has them, packed, and rows of x. */
struct trial {
	bool random;
	std::vector<uint8_t> codes, scales, packed;
	std::vector<float> factor;
	std::vector<uint16_t> x; /* in the order of K */
	/* of x, as kernels/fp4_row.h makes them */
	std::vector<uint8_t> x_codes, x_scales;
	std::vector<float> x_power;
	std::vector<double> w_number, x_number; /* code times scale */
};

uint16_t bf16_of(float x) /* that is one */
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return (uint16_t)(bits >> 16);
}

void make_weights(trial *t, random_bits *r)
{
	const size_t rows = (size_t)EXPERTS * N;

	t->codes.resize(rows * K / 2);
	t->scales.resize(rows * K / FP4_BLOCK);
	t->factor.resize(rows, 1);
	for (size_t i = 0; i < t->scales.size(); i++) {
		const size_t row = i / (K / FP4_BLOCK), block = i % (K / FP4_BLOCK);
		const bool has = t->random || block == (row * 7 + row / N) % (K / FP4_BLOCK);

		t->scales[i] =
			(uint8_t)(t->random ? r->next() % 0x7f : (1 + (block * 5 + row) % 14) << 3);
		for (int b = 0; b < FP4_BLOCK / 2; b++)
			t->codes[i * FP4_BLOCK / 2 + b] = has ? (uint8_t)r->next() : 0;
	}
	for (size_t i = 0; t->random && i < rows; i++)
		t->factor[i] = 0.5f + (float)(r->next() % 4096) / 4096;
}

void make_x(trial *t, random_bits *r)
{
	t->x.resize((size_t)ROWS * K);
	for (size_t i = 0; i < t->x.size(); i++) {
		const size_t row = i / K, block = i % K / FP4_BLOCK;
		const uint8_t code = (uint8_t)(i % FP4_BLOCK == row % FP4_BLOCK ? 7 : r->next());
		const uint16_t sign = (uint16_t)(r->next() << 15);

		t->x[i] =
			t->random ?
				(uint16_t)(sign | (0x3d00 + r->next() % 0x300)) :
				bf16_of(ldexpf(dequant_e2m1(code), (int)((block * 3 + row) % 10)));
	}
}

void reference_x(trial *t)
{
	std::vector<float> row(K);

	t->x_codes.resize((size_t)ROWS * K / 2);
	t->x_scales.resize((size_t)ROWS * K / FP4_BLOCK);
	t->x_power.resize(ROWS);
	for (size_t i = 0; i < ROWS; i++) {
		for (size_t c = 0; c < K; c++)
			row[c] = dequant_bf16(t->x[i * K + c]);
		fp4_row(row.data(), K, &t->x_codes[i * K / 2], &t->x_scales[i * K / FP4_BLOCK],
			&t->x_power[i]);
	}
}

double number(const uint8_t *codes, const uint8_t *scales, size_t i)
{
	return (double)dequant_e2m1((uint8_t)(codes[i / 2] >> i % 2 * 4 & 15)) *
	       (double)dequant_e4m3(scales[i / FP4_BLOCK]);
}

std::vector<double> numbers(const std::vector<uint8_t> &codes, const std::vector<uint8_t> &scales)
{
	std::vector<double> ret(codes.size() * 2);

	for (size_t i = 0; i < ret.size(); i++)
		ret[i] = number(codes.data(), scales.data(), i);
	return ret;
}

/* What row `n` of W (experts one after the other) gives row r of x, and its magnitudes. */
double dot(const trial &t, size_t n, size_t r, double *ret_size)
{
	const double factor = (double)t.x_power[r] * (double)t.factor[n];
	double sum = 0;

	*ret_size = 0;
	for (size_t k = 0; k < K; k++) {
		const double p = t.w_number[n * K + k] * t.x_number[r * K + k] * factor;

		sum += p;
		*ret_size += fabs(p);
	}
	return sum;
}

bool near(const trial &t, double want, double size, float got)
{
	return t.random ? fabs(want - (double)got) <= size * PREFILL_FP4_TOLERANCE(K) :
			  (double)got == want;
}

const char *name_of(const trial &t)
{
	return t.random ? "random" : "one block";
}

/* x on the device, in prefill order, and quantised there; compared. */
int check_rows(const trial &t, pool *m, struct fp4_rows *ret, char *text, void *stream)
{
	const size_t padded = fp4_padded(K);
	std::vector<uint16_t> ordered(t.x.size());
	std::vector<uint32_t> codes(ROWS * padded / 8), scales(ROWS * padded / 64);
	std::vector<float> power(ROWS);
	const char *wrong = NULL;

	for (size_t i = 0; i < t.x.size(); i++)
		ordered[i / K * K + prefill_column((uint32_t)(i % K))] = t.x[i];
	const uint16_t *x = m->take(ordered.data(), ordered.size());
	void *room = m->take((const char *)NULL, fp4_rows_bytes(ROWS, K));

	*ret = fp4_rows_at(room, ROWS, K);
	if (m->failed || prefill_fp4_quantise(x, ROWS, K, K, NULL, ret, stream) ||
	    cudaStreamSynchronize((cudaStream_t)stream) != cudaSuccess ||
	    !m->back(&codes, ret->codes) || !m->back(&scales, ret->scales) ||
	    !m->back(&power, ret->power))
		return -ENODEV;
	for (size_t r = 0; r < ROWS && !wrong; r++) {
		wrong = memcmp(&power[r], &t.x_power[r], 4) ? "power" : NULL;
		for (size_t k = 0; k < padded && !wrong; k++) {
			const uint8_t *word = (const uint8_t *)&codes[(r * padded + k) / 8];
			const uint32_t in =
				k % 8 / 2 + k % 2 * 4; /* nibble: fp4_column(in) = k % 8 */
			const uint8_t code = word[in / 2] >> in % 2 * 4 & 15,
				      scale = ((const uint8_t *)&scales[r * padded / 64])[k / 16];

			if (code != (k < K ? t.x_codes[(r * K + k) / 2] >> k % 2 * 4 & 15 : 0))
				wrong = "code";
			else if (scale != (k < K ? t.x_scales[(r * K + k) / FP4_BLOCK] : 0))
				wrong = "scale";
		}
		if (wrong)
			snprintf(text, PREFILL_FP4_TEXT, "%s: a %s of row %zu of x differs",
				 name_of(t), wrong, r);
	}
	return wrong ? -EIO : 0;
}

/* y[i] is row row_of[i] of x with expert expert_of[i]. */
int compare(const trial &t, const std::vector<float> &y, const std::vector<uint32_t> &row_of,
	    const std::vector<uint32_t> &expert_of, const char *what, char *text)
{
	for (size_t i = 0; i < row_of.size(); i++)
		for (size_t n = 0; n < N; n++) {
			double size;
			const double want = dot(t, expert_of[i] * N + n, row_of[i], &size);

			if (near(t, want, size, y[i * N + n]))
				continue;
			snprintf(text, PREFILL_FP4_TEXT,
				 "%s, %s: %g instead of %g at row %u of x, row %zu of W",
				 name_of(t), what, (double)y[i * N + n], want, row_of[i], n);
			return -EIO;
		}
	return 0;
}

int check_dense(const trial &t, pool *m, const void *w, const float *factor,
		const struct fp4_rows &x, char *text, void *stream)
{
	struct decode_matmul_args a = {};
	std::vector<float> y((size_t)ROWS * N);
	std::vector<uint32_t> row(ROWS), expert(ROWS, 0);

	for (uint32_t i = 0; i < ROWS; i++)
		row[i] = i;
	float *to = m->take((const float *)NULL, y.size());
	a.w = w;
	a.y = to;
	a.row_scale = factor;
	a.n_rows = ROWS;
	a.n = a.ldy = N;
	a.k = K;
	a.format = MATMUL_NVFP4;
	a.out = MATMUL_OUT_F32;
	if (m->failed || prefill_fp4_matmul(&a, &x, stream) ||
	    cudaStreamSynchronize((cudaStream_t)stream) != cudaSuccess || !m->back(&y, to))
		return -ENODEV;
	return compare(t, y, row, expert, "dense", text);
}

/* Expert 0 has every row, 1 a tenth, 2 the others. */
int check_experts(const trial &t, pool *m, const void *w, const float *factor,
		  const struct fp4_rows &x, char *text, void *stream)
{
	struct decode_experts_args a = {};
	std::vector<float> y((size_t)ROWS * SLOTS * N);
	std::vector<uint32_t> row(ROWS * SLOTS), expert(ROWS * SLOTS);

	for (uint32_t i = 0; i < ROWS * SLOTS; i++) {
		row[i] = i / SLOTS;
		expert[i] = i % SLOTS == 0 ? 0 : row[i] % 10 == 0 ? 1 : 2;
	}
	const uint32_t *ids = m->take(expert.data(), expert.size());
	float *to = m->take((const float *)NULL, y.size());
	void *mem = m->take((const char *)NULL, prefill_list_bytes(ROWS, SLOTS, EXPERTS));
	const struct prefill_list list = prefill_list_at(mem, ROWS, SLOTS, EXPERTS);

	a.w = w;
	a.row_scale = factor;
	a.y = to;
	a.n_rows = ROWS;
	a.n_slots = SLOTS;
	a.n_experts = EXPERTS;
	a.n = a.ldy = N;
	a.k = K;
	a.format = MATMUL_NVFP4;
	a.out = MATMUL_OUT_F32;
	if (m->failed || prefill_list_build(ids, ROWS, SLOTS, EXPERTS, &list, stream) ||
	    prefill_fp4_experts(&a, &list, &x, stream) ||
	    cudaStreamSynchronize((cudaStream_t)stream) != cudaSuccess || !m->back(&y, to))
		return -ENODEV;
	return compare(t, y, row, expert, "experts", text);
}

int try_one(bool random, char *text, void *stream)
{
	const size_t each = matmul_packed_bytes(MATMUL_NVFP4, N, K);
	random_bits bits = { random ? 1u : 2u };
	struct fp4_rows x;
	trial t = {};
	pool m;
	int rc = 0;

	t.random = random;
	make_weights(&t, &bits);
	make_x(&t, &bits);
	reference_x(&t);
	t.w_number = numbers(t.codes, t.scales);
	t.x_number = numbers(t.x_codes, t.x_scales);
	t.packed.resize(each * EXPERTS);
	for (size_t e = 0; !rc && e < EXPERTS; e++)
		rc = matmul_pack_nvfp4(&t.codes[e * N * K / 2], &t.scales[e * N * K / FP4_BLOCK], N,
				       K, &t.packed[e * each]);
	const uint8_t *w = m.take(t.packed.data(), t.packed.size());
	const float *factor = m.take(t.factor.data(), t.factor.size());

	rc = rc ? rc : check_rows(t, &m, &x, text, stream);
	rc = rc ? rc : check_dense(t, &m, w, factor, x, text, stream);
	rc = rc ? rc : check_experts(t, &m, w, factor, x, text, stream);
	return m.full ? -ENOMEM : rc;
}

} /* namespace */

int prefill_fp4_check(char ret_text[PREFILL_FP4_TEXT], void *stream)
{
	int rc = 0;

	ret_text[0] = '\0';
	for (bool random : { false, true })
		rc = rc ? rc : try_one(random, ret_text, stream);
	if (rc && rc != -EIO)
		snprintf(ret_text, PREFILL_FP4_TEXT, "the check could not be run: %s",
			 rc == -ENOMEM ? "no memory" : cudaGetErrorString(cudaGetLastError()));
	return rc;
}
