/* path_body.h - the hot loops; included once by each path_*.c, which sets the tile sizes.
 *
 * Tiles only say how many results are in registers at a time.  Each result is one
 * accumulator that takes its products in the order of K, so no tile changes a bit.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/path.h"

typedef float v16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t i16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t u16x __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t h16 __attribute__((vector_size(32), aligned(2), may_alias));

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

#define LOAD(p) (*(const v16 *)(p))
#define STORE(p, x) (*(v16 *)(p) = (x))
#define SPLAT(x) ((v16){ 0 } + (x))

/* ---- small pieces -------------------------------------------------------------- */

/* Vectors pass between inlined functions only: no ABI is involved. */
#pragma GCC diagnostic ignored "-Wpsabi"

INLINE v16 select16(i16 mask, v16 a, v16 b)
{
	return (v16)((mask & (i16)a) | (~mask & (i16)b));
}

INLINE v16 round16(v16 x)
{
	u16x u = (u16x)x;
	u16x r = (u + 0x7fffu + ((u >> 16) & 1u)) & 0xffff0000u;

	return select16(x == x, (v16)r, x);
}

INLINE v16 round_if(v16 x, bool on)
{
	return on ? round16(x) : x;
}

/* Lanes added in halves: 16, 8, 4, 2. */
INLINE float sum16(v16 x)
{
	float f[16];

	memcpy(f, &x, sizeof(f));
	for (int n = 8; n > 0; n /= 2)
		for (int i = 0; i < n; i++)
			f[i] += f[i + n];
	return f[0];
}

/* exp by 2^n times a polynomial on [-ln2/2, ln2/2]; about 1 ulp.  Below -87: 0. */
INLINE v16 exp16(v16 x)
{
	v16 lo = SPLAT(-87.0f), hi = SPLAT(88.0f);
	i16 tiny = x < lo;
	v16 c = select16(x > hi, hi, select16(tiny, lo, x));
	v16 magic = SPLAT(12582912.0f);
	v16 n = (c * 1.44269504088896341f + magic) - magic;
	v16 r = (c - n * 0.693359375f) - n * -2.12194440e-4f;
	v16 p = SPLAT(1.9875691500e-4f);

	p = p * r + 1.3981999507e-3f;
	p = p * r + 8.3334519073e-3f;
	p = p * r + 4.1665795894e-2f;
	p = p * r + 1.6666665459e-1f;
	p = p * r + 5.0000001201e-1f;
	p = p * (r * r) + r + 1.0f;
	i16 bits = (__builtin_convertvector(n, i16) + 127) << 23;
	return select16(tiny, SPLAT(0.0f), select16(x != x, x, p * (v16)bits));
}

INLINE v16 sigmoid16(v16 x)
{
	return 1.0f / (1.0f + exp16(-x));
}

/* ---- matrices -------------------------------------------------------------------- */

INLINE void tile_bf16(const struct mat *w, uint32_t g, const float *x, size_t ldx, float *out,
		      size_t ldo, const int rows, const int groups)
{
	uint32_t pairs = (w->cols + 1) / 2, whole = w->cols / 2;
	const uint32_t *base = (const uint32_t *)w->data + (size_t)g * pairs * LANES;
	v16 acc[8][8];

	UNROLL for (int r = 0; r < rows; r++)
		UNROLL for (int i = 0; i < groups; i++)
			acc[r][i] = SPLAT(0.0f);
	for (uint32_t k = 0; k < whole; k++)
		UNROLL for (int i = 0; i < groups; i++) {
			u16x u = *(const u16x *)(base + ((size_t)i * pairs + k) * LANES);
			v16 even = (v16)(u << 16), odd = (v16)(u & 0xffff0000u);

			UNROLL for (int r = 0; r < rows; r++) {
				acc[r][i] = acc[r][i] + even * x[(size_t)r * ldx + 2 * k];
				acc[r][i] = acc[r][i] + odd * x[(size_t)r * ldx + 2 * k + 1];
			}
		}
	if (w->cols % 2)
		UNROLL for (int i = 0; i < groups; i++) {
			u16x u = *(const u16x *)(base + ((size_t)i * pairs + whole) * LANES);

			UNROLL for (int r = 0; r < rows; r++)
				acc[r][i] = acc[r][i] + (v16)(u << 16) * x[(size_t)r * ldx + 2 * whole];
		}
	UNROLL for (int r = 0; r < rows; r++)
		UNROLL for (int i = 0; i < groups; i++)
			STORE(out + (size_t)r * ldo + (g + (uint32_t)i) * LANES, acc[r][i]);
}

static void group_f32(const struct mat *w, uint32_t g, const float *x, size_t ldx, uint32_t n_rows,
		      float *out, size_t ldo)
{
	const float *base = (const float *)w->data + (size_t)g * w->cols * LANES;

	for (uint32_t r = 0; r < n_rows; r++) {
		v16 acc = SPLAT(0.0f);

		for (uint32_t k = 0; k < w->cols; k++)
			acc = acc + LOAD(base + (size_t)k * LANES) * x[r * ldx + k];
		STORE(out + r * ldo + (size_t)g * LANES, acc);
	}
}

/* All rows against `groups` groups (1 or more than 1, a constant). */
INLINE void strip_bf16(const struct mat *w, uint32_t g, const float *x, size_t ldx, uint32_t n_rows,
		       float *out, size_t ldo, const int groups)
{
	uint32_t r = 0;

	for (; r + MM_ROWS <= n_rows; r += MM_ROWS)
		tile_bf16(w, g, x + r * ldx, ldx, out + r * ldo, ldo, MM_ROWS, groups);
#if MM_ROWS > 4
	for (; r + 4 <= n_rows; r += 4)
		tile_bf16(w, g, x + r * ldx, ldx, out + r * ldo, ldo, 4, groups);
#endif
#if MM_ROWS > 2
	for (; r + 2 <= n_rows; r += 2)
		tile_bf16(w, g, x + r * ldx, ldx, out + r * ldo, ldo, 2, groups);
#endif
	for (; r < n_rows; r++)
		tile_bf16(w, g, x + r * ldx, ldx, out + r * ldo, ldo, 1, groups);
}

static void matmul(const struct mat *w, uint32_t g0, uint32_t g1, const float *x, size_t ldx,
		   uint32_t n_rows, float *out, size_t ldo)
{
	uint32_t g = g0;

	if (w->f32) {
		for (; g < g1; g++)
			group_f32(w, g, x, ldx, n_rows, out, ldo);
		return;
	}
	if (n_rows == 1)	/* more groups at once: more sums in flight */
		for (; g + 2 * MM_GROUPS <= g1; g += 2 * MM_GROUPS)
			tile_bf16(w, g, x, ldx, out, ldo, 1, 2 * MM_GROUPS);
#if MM_GROUPS > 1
	for (; g + MM_GROUPS <= g1; g += MM_GROUPS)
		strip_bf16(w, g, x, ldx, n_rows, out, ldo, MM_GROUPS);
#endif
	for (; g < g1; g++)
		strip_bf16(w, g, x, ldx, n_rows, out, ldo, 1);
}

INLINE void gemm_tile(uint32_t k, const float *a, size_t lda, const float *b, size_t ldb, float *c,
		      size_t ldc, const int rows, const int vecs)
{
	v16 acc[4][4];

	UNROLL for (int r = 0; r < rows; r++)
		UNROLL for (int i = 0; i < vecs; i++)
			acc[r][i] = LOAD(c + (size_t)r * ldc + (size_t)i * LANES);
	for (uint32_t j = 0; j < k; j++)
		UNROLL for (int i = 0; i < vecs; i++) {
			v16 bv = LOAD(b + j * ldb + (size_t)i * LANES);

			UNROLL for (int r = 0; r < rows; r++)
				acc[r][i] = acc[r][i] + bv * a[(size_t)r * lda + j];
		}
	UNROLL for (int r = 0; r < rows; r++)
		UNROLL for (int i = 0; i < vecs; i++)
			STORE(c + (size_t)r * ldc + (size_t)i * LANES, acc[r][i]);
}

INLINE void gemm_rows(uint32_t n, uint32_t k, const float *a, size_t lda, const float *b,
		      size_t ldb, float *c, size_t ldc, const int rows)
{
	uint32_t i = 0;

	for (; i + GEMM_VECS * LANES <= n; i += GEMM_VECS * LANES)
		gemm_tile(k, a, lda, b + i, ldb, c + i, ldc, rows, GEMM_VECS);
	for (; i < n; i += LANES)
		gemm_tile(k, a, lda, b + i, ldb, c + i, ldc, rows, 1);
}

static void gemm(uint32_t m, uint32_t n, uint32_t k, const float *a, size_t lda, const float *b,
		 size_t ldb, float *c, size_t ldc)
{
	uint32_t r = 0;

	for (; r + GEMM_ROWS <= m; r += GEMM_ROWS)
		gemm_rows(n, k, a + r * lda, lda, b, ldb, c + r * ldc, ldc, GEMM_ROWS);
	for (; r < m; r++)
		gemm_rows(n, k, a + r * lda, lda, b, ldb, c + r * ldc, ldc, 1);
}

static void solve(uint32_t n_rows, const float *a, size_t lda, float *x, size_t ldx, uint32_t n)
{
	for (uint32_t i = 0; i < n; i += LANES)
		for (uint32_t r = 1; r < n_rows; r++) {
			v16 acc = LOAD(x + r * ldx + i);

			for (uint32_t c = 0; c < r; c++)
				acc = acc - LOAD(x + c * ldx + i) * a[r * lda + c];
			STORE(x + r * ldx + i, acc);
		}
}

/* ---- rows ------------------------------------------------------------------------- */

INLINE float square_sum(const float *x, uint32_t n)
{
	v16 acc = SPLAT(0.0f);

	for (uint32_t i = 0; i < n; i += LANES)
		acc = acc + LOAD(x + i) * LOAD(x + i);
	return sum16(acc);
}

static void norm(const float *x, const float *w, uint32_t n, float eps, bool round, float *out)
{
	float inv = 1.0f / sqrtf(square_sum(x, n) / (float)n + eps);

	for (uint32_t i = 0; i < n; i += LANES)
		STORE(out + i, round_if(LOAD(x + i) * inv * LOAD(w + i), round));
}

static void l2norm(float *x, uint32_t n, float scale)
{
	float inv = 1.0f / sqrtf(square_sum(x, n) + 1e-6f);

	for (uint32_t i = 0; i < n; i += LANES)
		STORE(x + i, LOAD(x + i) * inv * scale);
}

static void gated_norm(const float *o, const float *w, const float *z, uint32_t n, float eps,
		       bool round, float *out)
{
	float inv = 1.0f / sqrtf(square_sum(o, n) / (float)n + eps);

	for (uint32_t i = 0; i < n; i += LANES) {
		v16 g = LOAD(z + i);

		g = g * sigmoid16(g);
		STORE(out + i, round_if(LOAD(o + i) * inv * LOAD(w + i) * g, round));
	}
}

static void silu_mul(const float *gate, const float *up, uint32_t n, bool round, float *out)
{
	for (uint32_t i = 0; i < n; i += LANES) {
		v16 g = LOAD(gate + i);

		STORE(out + i, round_if(g * sigmoid16(g) * LOAD(up + i), round));
	}
}

static void sigmoid_mul(const float *o, const float *gate, uint32_t n, bool round, float *out)
{
	for (uint32_t i = 0; i < n; i += LANES)
		STORE(out + i, round_if(LOAD(o + i) * sigmoid16(LOAD(gate + i)), round));
}

static void add(float *x, const float *y, uint32_t n, bool round)
{
	for (uint32_t i = 0; i < n; i += LANES)
		STORE(x + i, round_if(LOAD(x + i) + LOAD(y + i), round));
}

static void axpy(float *x, float a, const float *y, uint32_t n)
{
	for (uint32_t i = 0; i < n; i += LANES)
		STORE(x + i, LOAD(x + i) + LOAD(y + i) * a);
}

static void scale_row(float *x, float a, uint32_t n)
{
	for (uint32_t i = 0; i < n; i += LANES)
		STORE(x + i, LOAD(x + i) * a);
}

static void round_row(float *x, uint32_t n)
{
	for (uint32_t i = 0; i < n; i += LANES)
		STORE(x + i, round16(LOAD(x + i)));
}

static void widen(const uint16_t *from, size_t n, float *to)
{
	for (size_t i = 0; i < n; i += LANES) {
		h16 h = *(const h16 *)(from + i);

		STORE(to + i, (v16)(__builtin_convertvector(h, u16x) << 16));
	}
}

/* ---- mixers ------------------------------------------------------------------------ */

static void softmax64(float *s, uint32_t first, uint32_t valid, float scale, bool round, float *m,
		      float *l, float *ret_corr)
{
	static const int32_t lane[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
	v16 none = SPLAT(-INFINITY), top = none, total = SPLAT(0.0f), p[4];
	float best = *m, f[16];
	i16 lanes;

	memcpy(&lanes, lane, sizeof(lanes));
	for (int i = 0; i < 4; i++) {
		i16 at = lanes + i * LANES;
		i16 in = (at >= (int32_t)first) & (at < (int32_t)valid);

		p[i] = select16(in, LOAD(s + i * LANES) * scale, none);
		top = select16(p[i] > top, p[i], top);
	}
	memcpy(f, &top, sizeof(f));
	for (int i = 0; i < 16; i++)
		best = f[i] > best ? f[i] : best;
	for (int i = 0; i < 4; i++) {
		p[i] = exp16(p[i] - best);
		total = total + p[i];
		STORE(s + i * LANES, round_if(p[i], round));
	}
	v16 corr = exp16(SPLAT(*m) - best);
	memcpy(f, &corr, sizeof(f));
	*ret_corr = f[0];
	*l = *l * f[0] + sum16(total);
	*m = best;
}

static void conv(const float *const *u, const float *w, size_t ldw, uint32_t taps, uint32_t n,
		 bool round, float *out)
{
	for (uint32_t i = 0; i < n; i += LANES) {
		v16 acc = LOAD(u[0] + i) * LOAD(w + i);

		for (uint32_t j = 1; j < taps; j++)
			acc = acc + LOAD(u[j] + i) * LOAD(w + j * ldw + i);
		STORE(out + i, round_if(acc * sigmoid16(acc), round));
	}
}

static void gdn_step(float *s, uint32_t dim, const float *q, const float *k, const float *v,
		     float decay, float beta, float *out)
{
	for (uint32_t c = 0; c < dim; c += LANES) {
		v16 m = SPLAT(0.0f), o = SPLAT(0.0f);

		for (uint32_t i = 0; i < dim; i++) {
			v16 row = LOAD(s + (size_t)i * dim + c) * decay;

			STORE(s + (size_t)i * dim + c, row);
			m = m + row * k[i];
		}
		v16 d = (LOAD(v + c) - m) * beta;
		for (uint32_t i = 0; i < dim; i++) {
			v16 row = LOAD(s + (size_t)i * dim + c) + d * k[i];

			STORE(s + (size_t)i * dim + c, row);
			o = o + row * q[i];
		}
		STORE(out + c, o);
	}
}


const struct cpu_path PATH = {
	.name = PATH_NAME,
	.matmul = matmul,
	.gemm = gemm,
	.norm = norm,
	.l2norm = l2norm,
	.gated_norm = gated_norm,
	.silu_mul = silu_mul,
	.sigmoid_mul = sigmoid_mul,
	.add = add,
	.axpy = axpy,
	.scale = scale_row,
	.round = round_row,
	.widen = widen,
	.softmax64 = softmax64,
	.conv = conv,
	.gdn_step = gdn_step,
	.solve = solve,
};
