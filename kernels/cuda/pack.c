/* pack.c - row-major weights to mma fragments.  The layout is in pack.h, a lane's part of it in
 * pack_lane.h. */
#include "kernels/cuda/pack.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "kernels/cuda/pack_lane.h"

const char *matmul_format_name(enum matmul_format f)
{
	switch (f) {
	case MATMUL_BF16: return "BF16";
	case MATMUL_FP8: return "FP8";
	case MATMUL_NVFP4: return "NVFP4";
	case MATMUL_N_FORMATS: break;
	}
	return "?";
}

size_t matmul_unit_bytes(enum matmul_format f)
{
	switch (f) {
	case MATMUL_BF16: return MATMUL_BF16_UNIT;
	case MATMUL_FP8: return MATMUL_FP8_UNIT;
	case MATMUL_NVFP4: return MATMUL_NVFP4_UNIT;
	case MATMUL_N_FORMATS: break;
	}
	return 0;
}

static size_t ceil_div(size_t a, size_t b)
{
	return (a + b - 1) / b;
}

size_t matmul_packed_bytes(enum matmul_format f, uint32_t n, uint32_t k)
{
	return ceil_div(n, MATMUL_TILE) * ceil_div(k, MATMUL_SLICE) * matmul_unit_bytes(f);
}

/* Calls pack(ctx, tile, slice, out) for every unit. */
static int each_unit(enum matmul_format f, uint32_t n, uint32_t k, uint8_t *out,
		     int (*pack)(const void *ctx, uint32_t tile, uint32_t slice, uint8_t *out),
		     const void *ctx)
{
	for (uint32_t tile = 0; tile < ceil_div(n, MATMUL_TILE); tile++)
		for (uint32_t slice = 0; slice < ceil_div(k, MATMUL_SLICE);
		     slice++, out += matmul_unit_bytes(f)) {
			int rc = pack(ctx, tile, slice, out);

			if (rc)
				return rc;
		}
	return 0;
}

/* ---- bfloat16 -------------------------------------------------------------- */

static int bf16_unit(const void *ctx, uint32_t tile, uint32_t slice, uint8_t *out)
{
	for (uint32_t step = 0; step < 16; step++)
		for (uint32_t lane = 0; lane < 32; lane++, out += 16) {
			const struct pack_place at = pack_place_of(tile, slice, step, lane);
			uint32_t v[4];

			pack_bf16_lane(ctx, &at, v);
			memcpy(out, v, sizeof(v));
		}
	return 0;
}

int matmul_pack_bf16(const uint16_t *w, uint32_t n, uint32_t k, void *ret_packed)
{
	const struct pack_rows m = { w, n, k, 0 };

	if (!n || !k || k % 8)
		return -EINVAL;
	return each_unit(MATMUL_BF16, n, k, ret_packed, bf16_unit, &m);
}

/* ---- FP8 ------------------------------------------------------------------- */

struct fp8 {
	struct pack_rows rows;
	const float *scale;
};

static float fp8_scale_at(const struct fp8 *m, uint32_t row, uint32_t col)
{
	return col < m->rows.k ? m->scale[row / 128 * ceil_div(m->rows.k, 128) + col / 128] : 0;
}

static int fp8_unit(const void *ctx, uint32_t tile, uint32_t slice, uint8_t *out)
{
	const struct fp8 *m = ctx;
	const uint32_t row = tile * MATMUL_TILE, col = slice * MATMUL_SLICE;
	/* A tile lies in one block of rows. */
	const float half[2] = { fp8_scale_at(m, row, col), fp8_scale_at(m, row, col + 128) };
	const float tail[4] = { pack_fp8_scale(half[0]), pack_fp8_scale(half[1]),
				pack_fp8_scale(half[0]), pack_fp8_scale(half[1]) };

	if (!isfinite(half[0]) || !isfinite(half[1]))
		return -EINVAL;
	for (uint32_t step = 0; step < 16; step++)
		for (uint32_t lane = 0; lane < 32; lane++) {
			const struct pack_place at = pack_place_of(tile, slice, step, lane);
			const float scale[2] = { half[step / 8], half[step / 8] };
			uint32_t v[2];

			if (pack_fp8_lane(&m->rows, &at, scale, v))
				return -EINVAL;
			memcpy(out + (step / 2 * 32 + lane) * 16 + step % 2 * 8, v, sizeof(v));
		}
	memcpy(out + 4096, tail, sizeof(tail));
	return 0;
}

int matmul_pack_fp8(const uint8_t *w, const float *scale, uint32_t n, uint32_t k,
		    void *ret_packed)
{
	const struct fp8 m = { { w, n, k, 0 }, scale };

	if (!n || !k || k % 16)
		return -EINVAL;
	return each_unit(MATMUL_FP8, n, k, ret_packed, fp8_unit, &m);
}

/* ---- NVFP4 ----------------------------------------------------------------- */

struct nvfp4 {
	struct pack_rows rows;
	const uint8_t *scale;
};

static int nvfp4_unit(const void *ctx, uint32_t tile, uint32_t slice, uint8_t *out)
{
	const struct nvfp4 *m = ctx;

	for (uint32_t step = 0; step < 16; step++)
		for (uint32_t lane = 0; lane < 32; lane++) {
			const struct pack_place at = pack_place_of(tile, slice, step, lane);
			const uint32_t v = pack_nvfp4_lane(&m->rows, m->scale, &at);

			memcpy(out + (step / 4 * 32 + lane) * 16 + step % 4 * 4, &v, sizeof(v));
		}
	for (uint32_t i = 0; i < 256; i++) {
		const uint8_t s = pack_nvfp4_unit_scale(&m->rows, m->scale, tile, slice, i);

		if (pack_e4m3_nan(s))
			return -EINVAL;
		out[2048 + i] = pack_scale_code(s);
	}
	return 0;
}

int matmul_pack_nvfp4(const uint8_t *codes, const uint8_t *scale, uint32_t n, uint32_t k,
		      void *ret_packed)
{
	const struct nvfp4 m = { { codes, n, k, 0 }, scale };

	if (!n || !k || k % 16)
		return -EINVAL;
	return each_unit(MATMUL_NVFP4, n, k, ret_packed, nvfp4_unit, &m);
}
