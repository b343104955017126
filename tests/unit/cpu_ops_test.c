/* cpu_ops_test.c - the hot loops of every instruction set against the plain references. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/path.h"
#include "kernels/cpu/ref.h"
#include "kernels/cpu/sample.h"
#include "tests/unit/unit.h"

#define N 512
#define GUARD 12345.0f

static uint32_t seed;

static float rnd(void)
{
	seed = seed * 1664525u + 1013904223u;
	return (float)(seed >> 8) / 8388608.0f - 1.0f;
}

static void fill(float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] = round_bf16(rnd());
}

static void near(double got, double want, double tolerance)
{
	if (!(fabs(got - want) <= tolerance * (1 + fabs(want))))
		fail_msg("got %.9g, want %.9g", got, want);
}

static const struct cpu_path *paths[3];
static int n_paths;

static int find_paths(void **state)
{
	static const char *const names[] = { "base", "avx2", "avx512" };

	(void)state;
	for (int i = 0; i < 3; i++)
		if (cpu_path_named(names[i]))
			paths[n_paths++] = cpu_path_named(names[i]);
	return n_paths ? 0 : -1;
}

/* The layout that path.h describes, said once more. */
static void pack(const float *w, uint32_t rows, uint32_t cols, bool f32, struct mat *m)
{
	uint32_t groups = (rows + 15) / 16, pairs = (cols + 1) / 2;

	*m = (struct mat){ .rows = rows, .cols = cols, .groups = groups, .f32 = f32,
			    .data = calloc((size_t)groups * 16 * (cols + 1), 4) };
	for (uint32_t r = 0; r < rows; r++)
		for (uint32_t c = 0; c < cols; c++) {
			float x = w[(size_t)r * cols + c];
			uint32_t *u = m->data;

			if (f32)
				((float *)m->data)[((size_t)(r / 16) * cols + c) * 16 + r % 16] = x;
			else
				u[((size_t)(r / 16) * pairs + c / 2) * 16 + r % 16] |=
					(uint32_t)bf16_bits(x) << (c % 2 ? 16 : 0);
		}
}

static void check_matmul(const struct cpu_path *p, uint32_t rows, uint32_t cols, uint32_t n,
			 bool f32)
{
	uint32_t ldo = (rows + 15) / 16 * 16;
	float *w = calloc((size_t)rows * cols, 4), *x = calloc((size_t)n * cols, 4);
	float *out = calloc((size_t)n * ldo + 1, 4);
	double *want = calloc(rows, sizeof(double));
	struct mat m;

	fill(w, (size_t)rows * cols);
	fill(x, (size_t)n * cols);
	pack(w, rows, cols, f32, &m);
	out[n * ldo] = GUARD;
	p->matmul(&m, 0, m.groups, x, cols, n, out, ldo);
	for (uint32_t i = 0; i < n; i++) {
		ref_matvec(w, rows, cols, x + i * cols, want);
		for (uint32_t r = 0; r < rows; r++)
			near((double)out[i * ldo + r], want[r], 2e-5);
	}
	assert_true(out[n * ldo] == GUARD);
	free(w);
	free(x);
	free(out);
	free(want);
	free(m.data);
}

TEST(matrices_of_odd_sizes_equal_the_reference)
{
	static const uint32_t rows[] = { 1, 16, 17, 95, 130 }, cols[] = { 1, 2, 33, 384 };
	static const uint32_t many[] = { 1, 2, 3, 7, 8, 21 };

	for (int p = 0; p < n_paths; p++)
		for (size_t i = 0; i < 5; i++)
			for (size_t j = 0; j < 4; j++)
				for (size_t k = 0; k < 6; k++)
					check_matmul(paths[p], rows[i], cols[j], many[k], k % 2);
}

TEST(norms_and_gates_equal_the_reference)
{
	float x[N], w[N], z[N], out[N];
	double want[N];

	for (int p = 0; p < n_paths; p++)
		for (uint32_t n = 16; n <= N; n += 48) {
			fill(x, n);
			fill(w, n);
			fill(z, n);
			for (uint32_t i = 0; i < n; i++)
				z[i] *= 30;	/* into the tails of exp */
			paths[p]->norm(x, w, n, 1e-6f, false, out);
			ref_norm(x, w, n, 1e-6, want);
			for (uint32_t i = 0; i < n; i++)
				near((double)out[i], want[i], 1e-6);
			paths[p]->gated_norm(x, w, z, n, 1e-6f, false, out);
			for (uint32_t i = 0; i < n; i++)
				near((double)out[i],
				     want[i] * (double)z[i] * ref_sigmoid((double)z[i]), 2e-6);
			paths[p]->silu_mul(z, x, n, false, out);
			for (uint32_t i = 0; i < n; i++)
				near((double)out[i],
				     (double)z[i] * ref_sigmoid((double)z[i]) * (double)x[i], 2e-6);
			paths[p]->sigmoid_mul(x, z, n, true, out);
			for (uint32_t i = 0; i < n; i++) {
				near((double)out[i], (double)x[i] * ref_sigmoid((double)z[i]),
				     4e-3);
				assert_true(out[i] == round_bf16(out[i]));
			}
		}
}

TEST(attention_in_blocks_equals_a_plain_softmax)
{
	enum { DIM = 32, MAX = 200 };
	float q[DIM], k[MAX * DIM], v[MAX * DIM], kt[DIM * 64], vb[64 * DIM], s[64], acc[DIM];
	double want[DIM];

	for (int p = 0; p < n_paths; p++)
		for (uint32_t n = 1; n <= MAX; n += 21) {
			float m = -INFINITY, l = 0, corr;

			fill(q, DIM);
			fill(k, n * DIM);
			fill(v, n * DIM);
			memset(acc, 0, sizeof(acc));
			for (uint32_t at = 0; at < n; at += 64) {
				uint32_t have = n - at < 64 ? n - at : 64;

				for (uint32_t j = 0; j < 64; j++)
					for (uint32_t i = 0; i < DIM; i++) {
						kt[i * 64 + j] =
							j < have ? k[(at + j) * DIM + i] : 9.0f;
						vb[j * DIM + i] =
							j < have ? v[(at + j) * DIM + i] : 9.0f;
					}
				memset(s, 0, sizeof(s));
				paths[p]->gemm(1, 64, DIM, q, DIM, kt, 64, s, 64);
				paths[p]->softmax64(s, 0, have, 1 / sqrtf(DIM), false, &m, &l,
						    &corr);
				paths[p]->scale(acc, corr, DIM);
				paths[p]->gemm(1, DIM, 64, s, 64, vb, DIM, acc, DIM);
			}
			ref_attention(q, k, v, n, DIM, want);
			for (uint32_t i = 0; i < DIM; i++)
				near((double)(acc[i] / l), want[i], 5e-6);
		}
}

TEST(the_delta_rule_and_the_convolution_equal_the_reference)
{
	enum { DIM = 48 };
	static float s[DIM * DIM];
	static double rs[DIM * DIM];
	float q[DIM], k[DIM], v[DIM], out[DIM], u[4 * DIM], w[4 * DIM];
	const float *rows[4] = { u, u + DIM, u + 2 * DIM, u + 3 * DIM };
	double want[DIM];

	for (int p = 0; p < n_paths; p++) {
		memset(s, 0, sizeof(s));
		memset(rs, 0, sizeof(rs));
		for (int t = 0; t < 50; t++) {
			float g = -fabsf(rnd()), beta = fabsf(rnd());

			fill(q, DIM);
			fill(k, DIM);
			fill(v, DIM);
			paths[p]->l2norm(q, DIM, 0.25f);
			paths[p]->l2norm(k, DIM, 1);
			paths[p]->gdn_step(s, DIM, q, k, v, (float)exp((double)g), beta, out);
			ref_delta_step(rs, DIM, q, k, v, (double)g, (double)beta, want);
			for (uint32_t i = 0; i < DIM; i++)
				near((double)out[i], want[i], 5e-6);
		}
		fill(u, 4 * DIM);
		fill(w, 4 * DIM);
		paths[p]->conv(rows, w, DIM, 4, DIM, false, out);
		for (uint32_t i = 0; i < DIM; i++) {
			const float a[4] = { u[i], u[DIM + i], u[2 * DIM + i], u[3 * DIM + i] };
			const float b[4] = { w[i], w[DIM + i], w[2 * DIM + i], w[3 * DIM + i] };

			near((double)out[i], ref_conv(a, b, 4), 2e-6);
		}
	}
}

TEST(rounding_is_to_the_nearest_even_bfloat16)
{
	assert_true(round_bf16(1.00390625f) == 1.0f);		/* half way, even below */
	assert_true(round_bf16(1.01171875f) == 1.015625f);	/* half way, even above */
	assert_true(round_bf16(1.004f) == 1.0078125f);
	assert_true(isnan(round_bf16(NAN)));
	EQ(bf16_bits(-2.0f), 0xc000);
	EQ(bf16_bits(NAN) & 0x7fc0, 0x7fc0);
}

static struct run_result pick(const struct sampling *p, const float *logits, uint32_t n)
{
	float x[100];
	uint32_t ids[100];
	struct sample_room room = { x, ids };
	struct run_result r = { 0 };
	struct sampler *s;

	OK(sampler_new(p, n, NULL, 0, &s));
	sampler_pick(s, logits, n, 5, &room, &r);
	sampler_free(s);
	assert_true(r.sampled && r.token < n);
	return r;
}

TEST(a_logit_that_is_no_number_is_found_wherever_it_stands)
{
	const struct token_bias forbid = { .id = 3, .bias = -INFINITY };
	const uint32_t never = 4;
	const struct sampling ways[] = {
		{ .top_p = 1, .repetition = 1 },
		{ .temperature = 0.8f,
		  .top_p = 0.9f,
		  .top_k = 20,
		  .repetition = 1.1f,
		  .seed = 1,
		  .logprob = true,
		  .n_top = 3,
		  .bias = &forbid,
		  .n_bias = 1,
		  .never = &never,
		  .n_never = 1 },
	};
	const float bad[] = { NAN, -NAN, INFINITY, -INFINITY };
	float x[100];

	for (uint32_t k = 0; k < 2; k++)
		for (uint32_t i = 0; i < 97; i++) {
			fill(x, 97);
			x[(i + 1) % 97] = 3.0e38f;	/* large is a number */
			x[(i + 2) % 97] = -3.0e38f;
			/* nor is a forbidden id none */
			assert_false(pick(&ways[k], x, 97).no_number);
			x[i] = bad[i % 4];
			assert_true(pick(&ways[k], x, 97).no_number);
			x[97] = NAN;	/* not one of the ids */
			x[i] = 0;
			assert_false(pick(&ways[k], x, 97).no_number);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(matrices_of_odd_sizes_equal_the_reference),
		cmocka_unit_test(norms_and_gates_equal_the_reference),
		cmocka_unit_test(attention_in_blocks_equals_a_plain_softmax),
		cmocka_unit_test(the_delta_rule_and_the_convolution_equal_the_reference),
		cmocka_unit_test(rounding_is_to_the_nearest_even_bfloat16),
		cmocka_unit_test(a_logit_that_is_no_number_is_found_wherever_it_stands),
	};

	return cmocka_run_group_tests(tests, find_paths, NULL);
}
