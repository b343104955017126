/* matmul_cases.h - what the tests of decode_matmul.h share: claims by the hundred, chance, packed random
 * matrices, outputs with poison around them, rows picked from a pool. */
#ifndef HEARTH_TESTS_GPU_MATMUL_CASES_H
#define HEARTH_TESTS_GPU_MATMUL_CASES_H

#include <errno.h>
#include <float.h>

#include "kernels/cpu/ref_matmul.h"
#include "kernels/cuda/decode_matmul_int.cuh"
#include "tests/gpu/gpu_test.h"

typedef std::vector<uint16_t> halves;

static bool few;
static int n_claims;

static inline void claim(bool ok, const char *what, const char *name, uint32_t rows, int form)
{
	n_claims++;
	if (ok)
		return;
	if (n_failed++ < 20)
		fprintf(stderr, "FAILED: %s: %s, %u rows, form %d\n", what, name, rows, form);
}

/* Whether there is a GPU; takes --few. */
static inline bool begin_cases(int argc, char **argv)
{
	few = asked(argc, argv, "--few");
	return have_gpu();
}

/* ---- chance ------------------------------------------------------------------ */

static uint64_t chance_state = 1;

static inline uint32_t chance(void)
{
	chance_state = chance_state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(chance_state >> 33);
}

static inline uint32_t below(uint32_t n)
{
	return chance() % n;
}

static inline uint16_t bf16_bits(float f)
{
	uint32_t u;

	memcpy(&u, &f, 4);
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* About normal, with the odd outlier: additions in another order show. */
static inline uint16_t some_bf16(void)
{
	float v = ((int)below(2001) - 1000 + (int)below(2001) - 1000) / 700.0f;

	return bf16_bits(below(64) ? v : v * 100);
}

static inline uint32_t crc(const void *data, size_t bytes)
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

static inline uint8_t some_e4m3(void)
{
	uint8_t v = (uint8_t)below(256);

	return (v & 0x7f) == 0x7f ? 0 : v;
}

static inline void matrix_make(struct matrix *m, enum matmul_format f, uint32_t n, uint32_t k)
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

template <class T> static inline T *to_device(const std::vector<T> &v)
{
	T *d;

	CUDA(cudaMalloc(&d, v.size() * sizeof(T)));
	CUDA(cudaMemcpy(d, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
	return d;
}

/* ---- outputs and rows ------------------------------------------------------------- */

#define GUARD 64	/* floats before and after y */
#define POISON 0xffc0beefu

/* y on the device with poison in, between and around the rows. */
struct out {
	std::vector<uint32_t> host;
	uint32_t *device;
	uint32_t rows, n, ldy;
};

static inline void out_make(struct out *o, uint32_t rows, uint32_t n)
{
	o->rows = rows;
	o->n = n;
	o->ldy = n + 5;
	o->host.assign((size_t)rows * o->ldy + 2 * GUARD, POISON);
	o->device = to_device(o->host);
}

static inline void out_read(struct out *o)
{
	CUDA(cudaDeviceSynchronize());
	CUDA(cudaMemcpy(o->host.data(), o->device, o->host.size() * 4, cudaMemcpyDeviceToHost));
	CUDA(cudaFree(o->device));
}

static inline const uint32_t *out_row(const struct out *o, uint32_t row)
{
	return o->host.data() + GUARD + (size_t)row * o->ldy;
}

/* Everything but the n values of each row is still poison, and they are not. */
static inline bool out_kept(const struct out *o)
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
static inline halves gather(const halves &pool, const std::vector<uint32_t> &pick, uint32_t k,
			    uint32_t ldx)
{
	halves x(pick.size() * ldx, 0x7fc0);

	for (size_t i = 0; i < pick.size(); i++)
		memcpy(&x[i * ldx], &pool[(size_t)pick[i] * k], k * 2);
	return x;
}

static inline float *scales_to_device(const std::vector<float> &v)
{
	return v.empty() ? NULL : to_device(v);
}

static inline std::vector<uint32_t> some_rows(uint32_t n_pool, uint32_t n)
{
	std::vector<uint32_t> v;

	for (uint32_t i = 0; i < n; i++)
		v.push_back(below(n_pool));	/* twice the same is a neighbour too */
	return v;
}

#endif
