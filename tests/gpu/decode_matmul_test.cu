/* decode_matmul_test.cu - the decode matrix kernels compute W x, and a row's bits are its own.
 *
 * Claims: (1) every form, format and odd shape agrees with a sum in double to a few float32
 * epsilons of the sum of magnitudes; (2) a row computed alone has the same CRC as
 * among any number of other rows, whatever they are and wherever it stands, in every form;
 * (3) the same for a row's expert slots and their sum; (4) nothing is written outside
 * of y and nothing behind the ends of x is used; (5) broken arguments are refused.
 *
 * Exits 77 without a GPU.  --quick: fewer shapes and trials, for compute-sanitizer.
 */
#include <cuda_runtime.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <vector>

#include "bench/cuda/given_list.h"
#include "kernels/cpu/ref_matmul.h"
#include "kernels/cuda/decode_matmul_int.cuh"

typedef std::vector<uint16_t> halves;

static bool quick;
static int n_failed, n_claims;

#define CUDA(call)                                                                                 \
	do {                                                                                       \
		cudaError_t e_ = (call);                                                           \
		if (e_ != cudaSuccess) {                                                           \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__,                         \
				cudaGetErrorString(e_));                                           \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static void claim(bool ok, const char *what, const char *name, uint32_t rows, int form)
{
	n_claims++;
	if (ok)
		return;
	if (n_failed++ < 20)
		fprintf(stderr, "FAILED: %s: %s, %u rows, form %d\n", what, name, rows, form);
}

/* ---- chance ------------------------------------------------------------------ */

static uint64_t chance_state = 1;

static uint32_t chance(void)
{
	chance_state = chance_state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(chance_state >> 33);
}

static uint32_t below(uint32_t n)
{
	return chance() % n;
}

static uint16_t to_bf16(float f)
{
	uint32_t u;

	memcpy(&u, &f, 4);
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* About normal, with the odd outlier: additions in another order show. */
static uint16_t some_bf16(void)
{
	float v = ((int)below(2001) - 1000 + (int)below(2001) - 1000) / 700.0f;

	return to_bf16(below(64) ? v : v * 100);
}

static uint32_t crc(const void *data, size_t bytes)
{
	const uint8_t *p = (const uint8_t *)data;
	uint32_t c = ~0u;

	for (size_t i = 0; i < bytes; i++) {
		c ^= p[i];
		for (int b = 0; b < 8; b++)
			c = c >> 1 ^ (c & 1 ? 0x82f63b78u : 0);
	}
	return ~c;
}

/* ---- matrices ------------------------------------------------------------------ */

struct matrix {
	enum matmul_format format;
	std::vector<uint8_t> codes, scales;
	halves bf16;
	std::vector<float> fp8_scale;
	struct ref_weights ref;
	std::vector<uint8_t> packed;
	std::vector<float> row_scale;	/* quantised formats: of every packed row */

	double scale(uint32_t row) const { return row_scale.empty() ? 1 : (double)row_scale[row]; }
};

static uint8_t some_e4m3(void)
{
	uint8_t v = (uint8_t)below(256);

	return (v & 0x7f) == 0x7f ? 0 : v;
}

static void matrix_make(struct matrix *m, enum matmul_format f, uint32_t n, uint32_t k)
{
	int r = -1;

	m->format = f;
	m->ref = (struct ref_weights){};
	m->ref.n = n;
	m->ref.k = k;
	m->ref.global = 1;
	m->row_scale.clear();
	for (uint32_t i = 0; f != MATMUL_BF16 && i < (n + 15) / 16 * 16; i++)
		m->row_scale.push_back((float)(1 + below(1000)) * (f == MATMUL_NVFP4 ? 2e-5f : 1e-3f));
	m->packed.assign(matmul_packed_bytes(f, n, k), 0xff);
	if (f == MATMUL_BF16) {
		m->bf16.resize((size_t)n * k);
		for (auto &v : m->bf16)
			v = some_bf16();
		m->ref.bf16 = m->bf16.data();
		r = matmul_pack_bf16(m->bf16.data(), n, k, m->packed.data());
	} else if (f == MATMUL_FP8) {
		m->codes.resize((size_t)n * k);
		for (auto &v : m->codes)
			v = some_e4m3();
		m->fp8_scale.resize((size_t)(n + 127) / 128 * ((k + 127) / 128));
		for (auto &v : m->fp8_scale)
			v = below(20) ? (float)(1 + below(1000)) / 50000.0f * (below(3) ? 1.0f : -1.0f) : 0;
		m->ref.fp8 = m->codes.data();
		m->ref.fp8_scale = m->fp8_scale.data();
		r = matmul_pack_fp8(m->codes.data(), m->fp8_scale.data(), n, k, m->packed.data());
	} else {
		m->codes.resize((size_t)n * k / 2);
		for (auto &v : m->codes)
			v = (uint8_t)below(256);
		m->scales.resize((size_t)n * k / 16);
		for (auto &v : m->scales)	/* all of them: zero, subnormal, negative */
			v = some_e4m3();
		m->ref.fp4 = m->codes.data();
		m->ref.fp4_scale = m->scales.data();
		r = matmul_pack_nvfp4(m->codes.data(), m->scales.data(), n, k, m->packed.data());
	}
	claim(r == 0, "packs", matmul_format_name(f), n, 0);
}

template <class T> static T *to_device(const std::vector<T> &v)
{
	T *d;

	CUDA(cudaMalloc(&d, v.size() * sizeof(T)));
	CUDA(cudaMemcpy(d, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
	return d;
}

/* ---- dense ------------------------------------------------------------------- */

#define GUARD 64	/* floats before and after y */
#define POISON 0xffc0beefu

/* y on the device with poison in, between and around the rows. */
struct out {
	std::vector<uint32_t> host;
	uint32_t *device;
	uint32_t rows, n, ldy;
};

static void out_make(struct out *o, uint32_t rows, uint32_t n)
{
	o->rows = rows;
	o->n = n;
	o->ldy = n + 5;
	o->host.assign((size_t)rows * o->ldy + 2 * GUARD, POISON);
	o->device = to_device(o->host);
}

static void out_read(struct out *o)
{
	CUDA(cudaDeviceSynchronize());
	CUDA(cudaMemcpy(o->host.data(), o->device, o->host.size() * 4, cudaMemcpyDeviceToHost));
	CUDA(cudaFree(o->device));
}

static const uint32_t *out_row(const struct out *o, uint32_t row)
{
	return o->host.data() + GUARD + (size_t)row * o->ldy;
}

/* Everything but the n values of each row is still poison, and they are not. */
static bool out_kept(const struct out *o)
{
	bool ok = true;

	for (uint32_t i = 0; i < GUARD; i++)
		ok = ok && o->host[i] == POISON && o->host[o->host.size() - 1 - i] == POISON;
	for (uint32_t r = 0; r < o->rows; r++)
		for (uint32_t i = 0; i < o->ldy; i++)
			ok = ok && (out_row(o, r)[i] == POISON) == (i >= o->n);
	return ok;
}

/* Rows `pick` of `pool` as an x with ldx > k; what is behind a row is NaN. */
static halves gather(const halves &pool, const std::vector<uint32_t> &pick, uint32_t k,
		     uint32_t ldx)
{
	halves x(pick.size() * ldx, 0x7fc0);

	for (size_t i = 0; i < pick.size(); i++)
		memcpy(&x[i * ldx], &pool[(size_t)pick[i] * k], k * 2);
	return x;
}

static float *scales_to_device(const std::vector<float> &v)
{
	return v.empty() ? NULL : to_device(v);
}

struct dense {
	struct matrix m;
	uint8_t *w;
	float *row_scale;
	halves pool;		/* [n_pool][k] */
	uint32_t n_pool;
	char name[64];
};

/* One of the layouts not NULL: the wide or square form laid out so. */
static struct out dense_run(const struct dense *d, const std::vector<uint32_t> &pick,
			    enum matmul_form form, const struct wide_layout *layout = NULL,
			    const struct square_layout *square = NULL)
{
	const uint32_t k = d->m.ref.k, ldx = k + 8;
	uint16_t *x = to_device(gather(d->pool, pick, k, ldx));
	struct decode_matmul_args a = {};
	struct out o;

	out_make(&o, (uint32_t)pick.size(), d->m.ref.n);
	a.w = d->w;
	a.x = x;
	a.y = o.device + GUARD;
	a.n_rows = o.rows;
	a.n = d->m.ref.n;
	a.k = k;
	a.ldx = ldx;
	a.ldy = o.ldy;
	a.row_scale = d->row_scale;
	a.format = d->m.format;
	a.form = form;
	if (layout) {
		struct matmul_params p = matmul_params_of(&a);

		claim(matmul_launch_wide_as(&p, a.format, layout, NULL) == 0, "launches", d->name,
		      o.rows, form);
	} else if (square) {
		struct matmul_params p = matmul_params_of(&a);

		claim(matmul_launch_square_as(&p, a.format, square, NULL) == 0, "launches", d->name,
		      o.rows, form);
	} else {
		claim(decode_matmul(&a, NULL) == 0, "launches", d->name, o.rows, form);
	}
	out_read(&o);
	CUDA(cudaFree(x));
	claim(out_kept(&o), "writes its rows and nothing else", d->name, o.rows, form);
	return o;
}

/* Against the sum in double, at some rows of y and some of W. */
static void dense_check_values(const struct dense *d, const struct out *o,
			       const std::vector<uint32_t> &pick, int form)
{
	const uint32_t n = d->m.ref.n, k = d->m.ref.k;
	double worst = 0;

	for (int i = 0; i < (quick ? 40 : 300); i++) {
		uint32_t r = below(o->rows), row = i < 2 ? i * (n - 1) : below(n);
		double sum, magnitude;
		float got;

		memcpy(&got, &out_row(o, r)[row], 4);
		ref_matmul_dot(&d->m.ref, row, &d->pool[(size_t)pick[r] * k], &sum, &magnitude);
		sum *= d->m.scale(row);
		magnitude *= d->m.scale(row);
		double off = magnitude > 0 ? fabs(got - sum) / magnitude : fabs(got);
		worst = off == off ? std::max(worst, off) : HUGE_VAL;
	}
	claim(worst < 16 * FLT_EPSILON, "is W x", d->name, o->rows, form);
}

static std::vector<uint32_t> some_rows(uint32_t n_pool, uint32_t n)
{
	std::vector<uint32_t> v;

	for (uint32_t i = 0; i < n; i++)
		v.push_back(below(n_pool));	/* twice the same is a neighbour too */
	return v;
}

/* Every way of the square form to share the work, where it is there. */
static void square_test(const struct dense *d, const std::vector<uint32_t> &alone, uint32_t *same,
			uint32_t *asked)
{
	static const struct square_layout layouts[] = {
		{ 1, 1, false, 2, 8 }, { 5, 2, false, 3, 0 }, { 6, 2, false, 2, 16 },
		{ 8, 1, false, 2, 0 }, { 7, 2, false, 2, 0 }, { 8, 2, false, 2, 8 },
		{ 4, 2, true, 0, 0 },  { 3, 2, true, 0, 0 },  { 4, 4, true, 0, 0 },
		{ 3, 4, true, 0, 0 },  { 9, 8, true, 0, 0 },  { 8, 8, true, 0, 0 },
		{ 10, 8, true, 0, 0 }, { 5, 4, true, 0, 0 },
	};
	const uint32_t n = d->m.ref.n, k = d->m.ref.k;

	for (const struct square_layout &l : layouts)
		for (uint32_t rows : { 3u, 16u, 23u, 32u, 40u, 64u }) {
			const std::vector<uint32_t> pick = some_rows(d->n_pool, rows);
			struct matmul_params p = {};
			uint32_t here = 0;

			p.n_cols = rows;
			p.n_tiles = 1000;	/* those of this matrix do not matter here */
			p.n_slices = (k + MATMUL_SLICE - 1) / MATMUL_SLICE;
			/* Split: a block has one or two slices. */
			if (!matmul_square_fits(&p, d->m.format) ||
			    (l.split && ((uint32_t)l.cluster > p.n_slices ||
					 2 * (uint32_t)l.cluster < p.n_slices)))
				continue;
			struct out o = dense_run(d, pick, MATMUL_SQUARE, NULL, &l);
			for (uint32_t r = 0; r < rows; r++)
				here += crc(out_row(&o, r), n * 4) == alone[pick[r]];
			claim(here == rows, "no square layout changes a bit", d->name, rows,
			      l.tiles * 10 + l.cluster);
			dense_check_values(d, &o, pick, MATMUL_SQUARE);
			*same += here;
			*asked += rows;
		}
}

static void dense_test(enum matmul_format f, uint32_t n, uint32_t k)
{
	static const uint32_t counts[] = {1,  2,  7,  8,  9,  15,  16,	17, 24,
					  25, 31, 33, 64, 65, 128, 200, 256};
	static const enum matmul_form forms[] = { MATMUL_AUTO, MATMUL_NARROW, MATMUL_WIDE };
	static const struct wide_layout layouts[] = {
		{ 1, 4, 1, 1 }, { 1, 4, 2, 4 }, { 1, 4, 3, 3 }, { 1, 4, 6, 2 }, { 1, 8, 2, 2 },
		{ 1, 8, 4, 1 }, { 1, 8, 4, 2 }, { 1, 8, 6, 2 }, { 2, 8, 4, 1 }, { 2, 8, 4, 2 },
	};
	std::vector<uint32_t> alone;
	struct dense d;
	uint32_t same = 0, asked = 0;

	matrix_make(&d.m, f, n, k);
	snprintf(d.name, sizeof(d.name), "%s [%u, %u]", matmul_format_name(f), n, k);
	d.w = to_device(d.m.packed);
	d.row_scale = scales_to_device(d.m.row_scale);
	d.n_pool = quick ? 20 : 200;
	d.pool.resize((size_t)d.n_pool * k);
	for (auto &v : d.pool)
		v = some_bf16();

	for (uint32_t r = 0; r < d.n_pool; r++) {
		struct out o = dense_run(&d, { r }, MATMUL_AUTO);

		alone.push_back(crc(out_row(&o, 0), n * 4));
	}
	for (enum matmul_form form : forms)
		for (uint32_t count : counts)
			for (int trial = 0; trial < (quick ? 1 : 2); trial++) {
				uint32_t here = 0;

				if (quick && count > 65)
					continue;
				std::vector<uint32_t> pick = some_rows(d.n_pool, count);
				struct out o = dense_run(&d, pick, form);
				for (uint32_t r = 0; r < count; r++)
					here += crc(out_row(&o, r), n * 4) == alone[pick[r]];
				claim(here == count, "a row's bits are its own", d.name, count,
				      form);
				same += here;
				asked += count;
				if (!trial)
					dense_check_values(&d, &o, pick, form);
			}
	for (const struct wide_layout &l : layouts) {
		std::vector<uint32_t> pick = some_rows(d.n_pool, quick ? 20 : 70);
		uint32_t here = 0;

		if ((uint32_t)l.k_warps > (k + MATMUL_SLICE - 1) / MATMUL_SLICE ||
		    (l.tiles == 2 && f != MATMUL_NVFP4) ||
		    (f == MATMUL_FP8 && l.col_tiles == 8 && l.m_warps * l.k_warps > 8))
			continue;
		struct out o = dense_run(&d, pick, MATMUL_WIDE, &l);
		for (uint32_t r = 0; r < pick.size(); r++)
			here += crc(out_row(&o, r), n * 4) == alone[pick[r]];
		claim(here == pick.size(), "no layout changes a bit", d.name, (uint32_t)pick.size(),
		      l.m_warps);
		same += here;
		asked += pick.size();
	}
	square_test(&d, alone, &same, &asked);
	printf("%-22s %u of %u rows bit-equal to the row alone\n", d.name, same, asked);
	CUDA(cudaFree(d.w));
	CUDA(cudaFree(d.row_scale));
}

/* bfloat16 output is the float32 output, rounded once. */
static void bf16_out_test(void)
{
	const uint32_t n = 100, k = 512, rows = 30;
	struct matrix m;
	halves x((size_t)rows * k), y16((size_t)rows * n);
	std::vector<float> y32((size_t)rows * n);
	struct decode_matmul_args a = {};
	bool ok = true;

	matrix_make(&m, MATMUL_BF16, n, k);
	for (auto &v : x)
		v = some_bf16();
	for (enum matmul_form form : { MATMUL_NARROW, MATMUL_WIDE }) {
		float *d32 = to_device(y32);
		uint16_t *d16 = to_device(y16);

		a.w = to_device(m.packed);
		a.x = to_device(x);
		a.n_rows = rows;
		a.n = a.ldy = n;
		a.k = a.ldx = k;
		a.form = form;
		a.y = d32;
		claim(decode_matmul(&a, NULL) == 0, "launches", "f32 out", rows, form);
		a.y = d16;
		a.out = MATMUL_OUT_BF16;
		claim(decode_matmul(&a, NULL) == 0, "launches", "bf16 out", rows, form);
		a.out = MATMUL_OUT_F32;
		CUDA(cudaMemcpy(y32.data(), d32, y32.size() * 4, cudaMemcpyDeviceToHost));
		CUDA(cudaMemcpy(y16.data(), d16, y16.size() * 2, cudaMemcpyDeviceToHost));
		for (size_t i = 0; i < y32.size(); i++)
			ok = ok && to_bf16(y32[i]) == y16[i];
		claim(ok, "rounds once to bfloat16", "BF16", rows, form);
		for (const void *p : { (const void *)d32, (const void *)d16, a.w, a.x })
			CUDA(cudaFree((void *)p));
	}
}

/* SWIGLU's output is that of the float32 sums, in every form and for every number of rows. */
static void swiglu_test(enum matmul_format f)
{
	const uint32_t n = 160, k = 640, most = 70;
	struct matrix m;
	halves x((size_t)most * k), y16((size_t)most * n / 2), alone(y16.size());
	std::vector<float> y32((size_t)most * n);
	struct decode_matmul_args a = {};
	bool near = true, same = true;

	matrix_make(&m, f, n, k);
	for (auto &v : x)
		v = some_bf16();
	float *d32 = to_device(y32);
	uint16_t *d16 = to_device(y16), *d_x = to_device(x);

	a.w = to_device(m.packed);
	a.n = n;
	a.k = a.ldx = k;
	a.row_scale = scales_to_device(m.row_scale);
	a.format = f;
	for (uint32_t rows : { 1u, 3u, 8u, 17u, 24u, 40u, most })
		for (enum matmul_form form : { MATMUL_NARROW, MATMUL_WIDE, MATMUL_SQUARE })
			for (uint32_t first = 0; first < (rows == 1 ? most : 1); first++) {
				a.form = form;
				a.x = d_x + (size_t)first * k;
				a.n_rows = rows;
				a.ldy = n;
				a.y = d32;
				a.out = MATMUL_OUT_F32;
				const struct matmul_params p = matmul_params_of(&a);

				if (form == MATMUL_SQUARE && !matmul_square_fits(&p, f))
					continue;
				claim(decode_matmul(&a, NULL) == 0, "launches", "f32 out", rows, form);
				a.ldy = n / 2;
				a.y = d16;
				a.out = MATMUL_OUT_SWIGLU;
				claim(decode_matmul(&a, NULL) == 0, "launches", "swiglu", rows, form);
				CUDA(cudaMemcpy(y32.data(), d32, y32.size() * 4, cudaMemcpyDeviceToHost));
				CUDA(cudaMemcpy(y16.data(), d16, y16.size() * 2, cudaMemcpyDeviceToHost));
				for (size_t i = 0; i < (size_t)rows * n / 2; i++) {
					const size_t r = i / (n / 2), c = i % (n / 2), at = r * n + c / 8 * 16 + c % 8;
					const double g = (double)y32[at], want = g / (1 + exp(-g)) * (double)y32[at + 8];
					const double got = (double)ref_bf16(y16[i]);

					near = near && fabs(want - got) <= fabs(want) * (1.0 / 256 + 1e-5) + 1e-30;
					if (rows == 1 && form == MATMUL_NARROW)
						alone[(size_t)first * n / 2 + i] = y16[i];
					else
						same = same && alone[(size_t)first * n / 2 + i] == y16[i];
				}
			}
	claim(near, "swiglu rounds once", matmul_format_name(f), most, 0);
	claim(same, "swiglu's bits are the row's own", matmul_format_name(f), most, 0);
	for (const void *p : { (const void *)d32, (const void *)d16, (const void *)d_x, a.w })
		CUDA(cudaFree((void *)p));
}

/* A plain matrix with one in turns right behind it gives what each gives alone. */
static void stacked_test(void)
{
	const uint32_t n = 41, n2 = 96, k = 768;
	struct matrix m, m2;
	halves x((size_t)40 * k), y16((size_t)40 * n2 / 2), both16(y16.size());
	std::vector<float> y32((size_t)40 * n), both32(y32.size());
	struct decode_matmul_args a = {};
	bool same = true;

	matrix_make(&m, MATMUL_BF16, n, k);
	matrix_make(&m2, MATMUL_BF16, n2, k);
	std::vector<uint8_t> packed = m.packed;
	packed.insert(packed.end(), m2.packed.begin(), m2.packed.end());
	for (auto &v : x)
		v = some_bf16();
	float *d32 = to_device(y32);
	uint16_t *d16 = to_device(y16), *d_x = to_device(x);
	uint8_t *w = to_device(packed);

	for (uint32_t rows : { 1u, 9u, 40u }) {
		a = {};
		a.x = d_x;
		a.n_rows = rows;
		a.k = a.ldx = k;
		for (int both = 0; both < 2; both++) {
			a.w = w;
			a.n = a.ldy = n;
			a.y = d32;
			a.out = MATMUL_OUT_F32;
			a.n_swiglu = both ? n2 : 0;
			a.ldy_swiglu = n2 / 2;
			a.y_swiglu = d16;
			claim(decode_matmul(&a, NULL) == 0, "launches", "stacked", rows, both);
			if (!both) {
				a.w = w + m.packed.size();
				a.n = n2;
				a.ldy = n2 / 2;
				a.y = d16;
				a.out = MATMUL_OUT_SWIGLU;
				claim(decode_matmul(&a, NULL) == 0, "launches", "in turns", rows, both);
			}
			CUDA(cudaMemcpy((both ? both32 : y32).data(), d32, y32.size() * 4, cudaMemcpyDeviceToHost));
			CUDA(cudaMemcpy((both ? both16 : y16).data(), d16, y16.size() * 2, cudaMemcpyDeviceToHost));
			CUDA(cudaMemset(d32, 0xff, y32.size() * 4));
			CUDA(cudaMemset(d16, 0xff, y16.size() * 2));
		}
		same = same && !memcmp(y32.data(), both32.data(), (size_t)rows * n * 4) &&
		       !memcmp(y16.data(), both16.data(), (size_t)rows * n2);
	}
	claim(same, "stacked matrices are two matrices", "BF16", 40, 0);
	for (void *p : { (void *)d32, (void *)d16, (void *)d_x, (void *)w })
		CUDA(cudaFree(p));
}

/* Two products in one launch, or two that overlap, have the bits of two launches. */
static void pair_test(enum matmul_format f, uint32_t n, uint32_t n2)
{
	const uint32_t k = 1040, most = 33;
	struct matrix m, m2;
	halves x((size_t)most * k);
	std::vector<float> y(most * (n + n2)), both(y.size());
	struct decode_matmul_args a = {}, b;
	bool same = true;

	matrix_make(&m, f, n, k);
	matrix_make(&m2, MATMUL_BF16, n2, k);
	for (auto &v : x)
		v = some_bf16();
	float *d = to_device(y);

	a.w = to_device(m.packed);
	a.row_scale = scales_to_device(m.row_scale);
	a.format = f;
	a.x = to_device(x);
	a.y = d;
	a.n = n;
	a.k = a.ldx = k;
	a.ldy = n + n2;
	b = a;
	b.w = to_device(m2.packed);
	b.row_scale = NULL;
	b.format = MATMUL_BF16;
	b.y = d + n;
	b.n = n2;
	for (uint32_t rows : { 1u, 5u, 8u, 9u, 16u, 17u, most }) {
		a.n_rows = b.n_rows = rows;
		for (int turn = 0; turn < 3; turn++) {
			const int rc = turn == 0 ? decode_matmul(&a, NULL) ?: decode_matmul(&b, NULL) :
				       turn == 1 ? decode_matmul_pair(&a, &b, NULL) : decode_matmul_pair(&b, &a, NULL);

			claim(rc == 0, "launches", "pair", rows, turn);
			CUDA(cudaMemcpy((turn ? both : y).data(), d, y.size() * 4, cudaMemcpyDeviceToHost));
			CUDA(cudaMemset(d, 0xff, y.size() * 4));
			same = same && (!turn || !memcmp(y.data(), both.data(), (size_t)rows * (n + n2) * 4));
		}
	}
	claim(same, "a pair is two products", matmul_format_name(f), n, (int)n2);
	for (const void *p : { a.w, b.w, a.x, (const void *)a.row_scale, (const void *)d })
		CUDA(cudaFree((void *)p));
}

/* ---- experts ------------------------------------------------------------------- */

struct experts {
	uint32_t n_experts, n_slots, n, k;
	bool per_slot;
	std::vector<struct matrix> m;
	std::vector<float> scale;	/* [n_experts][packed rows] */
	std::vector<uint8_t> packed;
	uint8_t *w;
	float *d_scale;
	uint32_t n_pool;
	halves pool;			/* [n_pool (* n_slots)][k] */
	halves residual;		/* [n_pool][n] */
	std::vector<uint32_t> ids;	/* [n_pool][n_slots] */
	std::vector<float> weight;	/* [n_pool][n_slots] */
	enum matmul_format format;
	char name[64];
};

static void experts_make(struct experts *e, enum matmul_format f)
{
	e->format = f;
	e->m.resize(e->n_experts);
	for (uint32_t i = 0; i < e->n_experts; i++) {
		matrix_make(&e->m[i], f, e->n, e->k);
		e->scale.insert(e->scale.end(), e->m[i].row_scale.begin(), e->m[i].row_scale.end());
		e->packed.insert(e->packed.end(), e->m[i].packed.begin(), e->m[i].packed.end());
	}
	e->w = to_device(e->packed);
	e->d_scale = scales_to_device(e->scale);
	e->pool.resize((size_t)e->n_pool * e->k * (e->per_slot ? e->n_slots : 1));
	for (auto &v : e->pool)
		v = some_bf16();
	e->residual.resize((size_t)e->n_pool * e->n);
	for (auto &v : e->residual)
		v = some_bf16();
	for (uint32_t r = 0; r < e->n_pool; r++) {
		std::vector<uint32_t> all(e->n_experts);

		for (uint32_t i = 0; i < e->n_experts; i++)
			all[i] = i;
		for (uint32_t s = 0; s < e->n_slots; s++) {
			/* Every third row likes the same experts: some get many columns. */
			std::swap(all[s],
				  all[s + below((r % 3 ? e->n_experts : e->n_slots + 1) - s)]);
			e->ids.push_back(all[s]);
			e->weight.push_back((1 + below(100)) / 100.0f);
		}
	}
	snprintf(e->name, sizeof(e->name), "%s %u x [%u, %u]%s", matmul_format_name(f),
		 e->n_experts, e->n, e->k, e->per_slot ? " per slot" : "");
}

/* Gives the slots' sums, and what the combination of each row becomes. */
static struct out experts_run(const struct experts *e, const std::vector<uint32_t> &pick,
			      halves *ret_combined)
{
	const uint32_t rows = (uint32_t)pick.size(), pairs = rows * e->n_slots, ldx = e->k + 8;
	std::vector<uint32_t> ids, x_rows;
	std::vector<float> weight;
	halves residual;
	struct decode_experts_args a = {};
	struct out o;
	void *mem;

	for (uint32_t r : pick)
		for (uint32_t s = 0; s < e->n_slots; s++) {
			ids.push_back(e->ids[r * e->n_slots + s]);
			weight.push_back(e->weight[r * e->n_slots + s]);
			if (e->per_slot || !s)
				x_rows.push_back(e->per_slot ? r * e->n_slots + s : r);
		}
	residual = gather(e->residual, pick, e->n, e->n);
	float *d_weight = to_device(weight);
	uint16_t *x = to_device(gather(e->pool, x_rows, e->k, ldx)),
		 *d_residual = to_device(residual);
	float *y;

	CUDA(cudaMalloc(&mem, expert_list_bytes(rows, e->n_slots, e->n_experts)));
	CUDA(cudaMemset(mem, 0xff, expert_list_bytes(rows, e->n_slots, e->n_experts)));
	struct expert_list list = expert_list_at(mem, rows, e->n_slots, e->n_experts);
	CUDA(given_list(ids, e->n_experts, &list));
	out_make(&o, pairs, e->n);
	a.w = e->w;
	a.row_scale = e->d_scale;
	a.x = x;
	a.y = (float *)o.device + GUARD;
	a.list = &list;
	a.n_rows = rows;
	a.n_slots = e->n_slots;
	a.n_experts = e->n_experts;
	a.n = e->n;
	a.k = e->k;
	a.ldx = ldx;
	a.ldy = o.ldy;
	a.x_per_slot = e->per_slot;
	a.format = e->format;
	claim(decode_experts(&a, NULL) == 0, "launches", e->name, rows, 0);
	out_read(&o);
	claim(out_kept(&o), "writes its slots and nothing else", e->name, rows, 0);

	/* The combination wants rows without gaps. */
	CUDA(cudaMalloc(&y, (size_t)pairs * e->n * 4));
	for (uint32_t i = 0; i < pairs; i++)
		CUDA(cudaMemcpy(y + (size_t)i * e->n, out_row(&o, i), e->n * 4,
				cudaMemcpyHostToDevice));
	struct experts_combine_args c = {y,    d_weight,   d_residual, d_residual,
					 rows, e->n_slots, e->n};
	claim(experts_combine(&c, NULL) == 0, "launches", e->name, rows, 0);
	ret_combined->resize((size_t)rows * e->n);
	CUDA(cudaMemcpy(ret_combined->data(), d_residual, ret_combined->size() * 2,
			cudaMemcpyDeviceToHost));
	for (void *p :
	     {(void *)d_weight, (void *)x, (void *)d_residual, (void *)y, mem})
		CUDA(cudaFree(p));
	return o;
}

static uint32_t slots_crc(const struct experts *e, const struct out *o, uint32_t row)
{
	uint32_t c = 0;

	for (uint32_t s = 0; s < e->n_slots; s++)
		c = c * 31 + crc(out_row(o, row * e->n_slots + s), e->n * 4);
	return c;
}

static void experts_check_values(const struct experts *e, const struct out *o,
				 const halves &combined, const std::vector<uint32_t> &pick)
{
	double worst = 0;
	bool sums = true;

	for (int i = 0; i < (quick ? 20 : 200); i++) {
		uint32_t r = below((uint32_t)pick.size()), row = below(e->n);
		float total = 0, weight, value;

		for (uint32_t s = 0; s < e->n_slots; s++) {
			uint32_t at = pick[r] * e->n_slots + s;
			const uint16_t *x = &e->pool[(size_t)(e->per_slot ? at : pick[r]) * e->k];
			double sum, magnitude;

			ref_matmul_dot(&e->m[e->ids[at]].ref, row, x, &sum, &magnitude);
			sum *= e->m[e->ids[at]].scale(row);
			magnitude *= e->m[e->ids[at]].scale(row);
			memcpy(&value, &out_row(o, r * e->n_slots + s)[row], 4);
			weight = e->weight[at];
			total = s ? fmaf(weight, value, total) : weight * value;
			double off = fabs(value - sum) / (magnitude > 0 ? magnitude : 1);
			worst = off == off ? std::max(worst, off) : HUGE_VAL;
		}
		total += ref_bf16(e->residual[(size_t)pick[r] * e->n + row]);
		sums = sums && combined[(size_t)r * e->n + row] == to_bf16(total);
	}
	claim(worst < 16 * FLT_EPSILON, "a slot is its expert's W x", e->name, o->rows, 0);
	claim(sums, "slots are added in order", e->name, o->rows, 0);
}

static void experts_test(enum matmul_format f, uint32_t n_experts, uint32_t n_slots, uint32_t n,
			 uint32_t k, bool per_slot)
{
	static const uint32_t counts[] = { 1, 2, 3, 8, 17, 24, 64, 100, 200 };
	struct experts e = {};
	std::vector<uint32_t> alone;
	std::vector<halves> alone_combined;
	uint32_t same = 0, asked = 0;

	e.n_experts = n_experts;
	e.n_slots = n_slots;
	e.n = n;
	e.k = k;
	e.per_slot = per_slot;
	e.n_pool = quick ? 10 : 100;
	experts_make(&e, f);
	for (uint32_t r = 0; r < e.n_pool; r++) {
		halves combined;
		struct out o = experts_run(&e, { r }, &combined);

		alone.push_back(slots_crc(&e, &o, 0));
		alone_combined.push_back(combined);
	}
	for (uint32_t count : counts)
		for (int trial = 0; trial < (quick ? 1 : 2); trial++) {
			std::vector<uint32_t> pick = some_rows(e.n_pool, count);
			halves combined;
			uint32_t here = 0;

			if (quick && count > 24)
				continue;
			struct out o = experts_run(&e, pick, &combined);
			for (uint32_t r = 0; r < count; r++)
				here += slots_crc(&e, &o, r) == alone[pick[r]] &&
					!memcmp(&combined[(size_t)r * n],
						alone_combined[pick[r]].data(), n * 2);
			claim(here == count, "a row's slots are its own", e.name, count, 0);
			same += here;
			asked += count;
			if (!trial)
				experts_check_values(&e, &o, combined, pick);
		}
	printf("%-22s %u of %u rows bit-equal to the row alone\n", e.name, same, asked);
	CUDA(cudaFree(e.w));
	CUDA(cudaFree(e.d_scale));
}

/* ---- experts in both forms ------------------------------------------------------------ */

/* y of every slot in one form. */
static std::vector<uint32_t> form_run(const struct decode_experts_args *args, enum matmul_form form,
				      const char *name)
{
	const size_t bytes = (size_t)args->n_rows * args->n_slots * args->ldy *
			     (args->out == MATMUL_OUT_F32 ? 4 : 2);
	struct decode_experts_args a = *args;
	std::vector<uint32_t> y(bytes / 4);

	a.form = form;
	CUDA(cudaMemset(a.y, 0xff, bytes));
	claim(decode_experts(&a, NULL) == 0, "launches", name, a.n_rows, form);
	CUDA(cudaDeviceSynchronize());
	CUDA(cudaMemcpy(y.data(), a.y, bytes, cudaMemcpyDeviceToHost));
	return y;
}

/* The ring form writes what the narrow form writes: all outputs, 1 to 8 slices, with and without
 * chunks of columns, more experts than blocks walk at once and fewer. */
static void experts_forms_test(enum matmul_format f, uint32_t n_experts, uint32_t n_slots,
			       uint32_t n, uint32_t k, bool per_slot)
{
	static const uint32_t counts[] = { 1, 2, 9, 40, 100, 256 };
	const uint32_t most = counts[quick ? 3 : 5];
	struct experts e = {};
	uint32_t same = 0, asked = 0;
	char *y;

	e.n_experts = n_experts;
	e.n_slots = n_slots;
	e.n = n;
	e.k = k;
	e.per_slot = per_slot;
	e.n_pool = most;
	experts_make(&e, f);
	uint16_t *x = to_device(e.pool);
	void *mem;

	CUDA(cudaMalloc(&y, (size_t)most * n_slots * n * 4));
	CUDA(cudaMalloc(&mem, expert_list_bytes(most, n_slots, n_experts)));
	for (uint32_t rows : counts)
		for (enum matmul_out out : { MATMUL_OUT_F32, MATMUL_OUT_SWIGLU })
			for (int settled = 0; settled < 2; settled++) {
				struct decode_experts_args a = {};

				if (rows > most)
					continue;
				struct expert_list list =
					expert_list_at(mem, rows, n_slots, n_experts);
				const std::vector<uint32_t> ids(
					e.ids.begin(), e.ids.begin() + rows * n_slots);
				CUDA(given_list(ids, n_experts, &list));
				a.w = e.w;
				a.row_scale = e.d_scale;
				a.x = x;
				a.y = y;
				a.list = &list;
				a.n_rows = rows;
				a.n_slots = n_slots;
				a.n_experts = n_experts;
				a.n = n;
				a.k = a.ldx = k;
				a.ldy = out == MATMUL_OUT_SWIGLU ? n / 2 : n;
				a.x_per_slot = per_slot;
				a.list_settled = settled;
				a.format = f;
				a.out = out;
				const bool here = form_run(&a, MATMUL_RING, e.name) ==
						  form_run(&a, MATMUL_NARROW, e.name);
				claim(here, "the ring form's bits are the narrow form's", e.name,
				      rows, out);
				same += here;
				asked++;
			}
	printf("%-22s %u of %u products the same in both forms\n", e.name, same, asked);
	for (void *p : { (void *)e.w, (void *)e.d_scale, (void *)x, (void *)y, mem })
		CUDA(cudaFree(p));
}

/* ---- refusals ------------------------------------------------------------------ */

static void refusal_test(void)
{
	static char *mem;
	struct decode_matmul_args good = {}, a;

	CUDA(cudaMalloc(&mem, 1 << 20));
	CUDA(cudaMemset(mem, 0, 1 << 20));
	good.w = mem;
	good.x = mem + 65536;
	good.y = mem + 131072;
	good.n_rows = 1;
	good.n = 16;
	good.k = good.ldx = 256;
	good.ldy = 16;
	claim(decode_matmul(&good, NULL) == 0, "takes good arguments", "", 1, 0);
#define REFUSED(change)                                                               \
	do {                                                                          \
		a = good;                                                             \
		change;                                                               \
		claim(decode_matmul(&a, NULL) == -EINVAL, "refuses " #change, "", 1, 0); \
	} while (0)
	REFUSED(a.w = mem + 8);
	REFUSED(a.x = NULL);
	REFUSED(a.y = NULL);
	REFUSED(a.n_rows = 0);
	REFUSED(a.n_rows = MATMUL_MAX_ROWS + 1);
	REFUSED(a.n = 0);
	REFUSED(a.k = 0);
	REFUSED(a.k = 250);
	REFUSED(a.k = a.ldx = MATMUL_MAX_K + 8);
	REFUSED(a.ldx = 248);
	REFUSED(a.ldx = 260);
	REFUSED(a.ldy = 15);
	REFUSED(a.format = MATMUL_N_FORMATS);
	REFUSED(a.form = (enum matmul_form)9);
	REFUSED(a.row_scale = (const float *)(const void *)mem);	/* BF16 has none */
	CUDA(cudaDeviceSynchronize());
	CUDA(cudaFree(mem));
}

int main(int argc, char **argv)
{
	int devices = 0;

	quick = argc > 1 && !strcmp(argv[1], "--quick");
	if (cudaGetDeviceCount(&devices) != cudaSuccess || !devices) {
		printf("skipped: no GPU here\n");
		return 77;
	}
	refusal_test();
	bf16_out_test();
	for (enum matmul_format f : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 })
		swiglu_test(f);
	stacked_test();
	for (enum matmul_format f : { MATMUL_FP8, MATMUL_NVFP4 }) {
		pair_test(f, 200, 70);
		pair_test(f, 12288, 64);	/* more tiles than places */
	}
	for (enum matmul_format f : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 }) {
		dense_test(f, 1, 16);
		dense_test(f, 100, 272);
		dense_test(f, quick ? 130 : 1000, 512);
		dense_test(f, 50, 1296);	/* six slices: warps without one */
		experts_test(f, 12, 4, 40, 528, false);
		experts_test(f, 24, 8, 70, 512, true);
		for (uint32_t k : { 256u, 512u, 1296u, 2048u })
			if (f != MATMUL_BF16) {
				experts_forms_test(f, 6, 4, 128, k, false);
				experts_forms_test(f, quick ? 24 : 200, 8, 128, k, true);
			}
		if (quick)
			continue;
		dense_test(f, 3000, 2048);
		dense_test(f, 2048, 4096);
		dense_test(f, 300, 17408);
		experts_test(f, 64, 9, 128, 2048, false);
		experts_test(f, 32, 8, 128, 512, true);
	}
	printf("%d claims, %d failed\n", n_claims, n_failed);
	return n_failed ? 1 : 0;
}
