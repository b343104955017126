/* decode_matmul_test.cu - the decode matrix kernels compute W x, and a row's bits are its own.
 *
 * Claims: (1) every form, format and odd shape agrees with a sum in double to a few float32
 * epsilons of the sum of magnitudes; (2) a row computed alone has the same CRC as
 * among any number of other rows, whatever they are and wherever it stands, in every form;
 * (3) nothing is written outside of y and nothing behind the ends of x is used; (4) broken arguments
 * are refused.  Experts: decode_experts_test.cu.
 *
 * Exits 77 without a GPU.  --few: every kernel, but fewer shapes and trials, for the sanitizers.
 */
#include "tests/gpu/matmul_cases.h"

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

	for (int i = 0; i < (few ? 40 : 300); i++) {
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
	static const uint32_t counts[] = { 16, 32, 64, 3, 23, 40 };	/* the first for --few */
	const uint32_t n = d->m.ref.n, k = d->m.ref.k;

	for (const struct square_layout &l : layouts)
		for (int i = 0; i < (few ? 3 : 6); i++) {
			const uint32_t rows = counts[i];
			const std::vector<uint32_t> pick = some_rows(d->n_pool, rows);
			struct matmul_params p = {};
			uint32_t here = 0;

			p.n_cols = rows;
			p.n_tiles = 1000;	/* those of this matrix do not matter here */
			p.n_slices = (k + MATMUL_SLICE - 1) / MATMUL_SLICE;
			if (few && (!l.split || l.tiles % 2))	/* tall: square_test */
				continue;
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
	static const uint32_t counts[] = {1, 8,	 9,  17, 24, 33, 64,  2,   7,	/* the first for --few */
					  15, 16, 25, 31, 65, 128, 200, 256};
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
	d.n_pool = few ? 3 : 200;
	d.pool.resize((size_t)d.n_pool * k);
	for (auto &v : d.pool)
		v = some_bf16();

	for (uint32_t r = 0; r < d.n_pool; r++) {
		struct out o = dense_run(&d, { r }, MATMUL_AUTO);

		alone.push_back(crc(out_row(&o, 0), n * 4));
	}
	for (enum matmul_form form : forms)
		for (int i = 0; i < (few ? 7 : 17); i++)
			for (int trial = 0; trial < (few ? 1 : 2); trial++) {
				const uint32_t count = counts[i];
				uint32_t here = 0;

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
		std::vector<uint32_t> pick = some_rows(d.n_pool, few ? 20 : 70);
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
			ok = ok && bf16_bits(y32[i]) == y16[i];
		claim(ok, "rounds once to bfloat16", "BF16", rows, form);
		for (const void *p : { (const void *)d32, (const void *)d16, a.w, a.x })
			CUDA(cudaFree((void *)p));
	}
}

/* SWIGLU's output is that of the float32 sums, in every form and for every number of rows. */
static void swiglu_test(enum matmul_format f)
{
	const uint32_t n = 160, k = 640, most = few ? 33 : 70;
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

				if (rows > most || (few && rows == 1 && form != MATMUL_NARROW))
					continue;
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
static void pair_test(enum matmul_format f, uint32_t n, uint32_t n2, uint32_t k)
{
	const uint32_t most = 33;
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
	good.format = MATMUL_FP8;
	good.row_scale = (const float *)(const void *)mem;
	claim(decode_matmul(&good, NULL) == 0, "takes good arguments", "FP8", 1, 0);
	REFUSED(a.row_scale++);		/* off alignment */

	/* More groups along K than there are barriers. */
	static const struct wide_layout layout = { 1, 4, 1, 8 };
	struct matmul_params p = matmul_params_of(&good);
	p.n_slices = 8;
	claim(matmul_launch_wide_as(&p, good.format, &layout, NULL) == -EINVAL, "refuses eight groups", "", 1, 0);
	CUDA(cudaDeviceSynchronize());
	CUDA(cudaFree(mem));
}

int main(int argc, char **argv)
{
	if (!begin_cases(argc, argv))
		return 77;
	refusal_test();
	bf16_out_test();
	for (enum matmul_format f : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 })
		swiglu_test(f);
	stacked_test();
	for (enum matmul_format f : { MATMUL_FP8, MATMUL_NVFP4 }) {
		pair_test(f, 200, 70, 1040);
		if (few)
			continue;
		pair_test(f, 12288, 64, 1040);	/* more tiles than places */
		pair_test(f, 200, 70, 10512);	/* two tiles of columns do not fit */
		pair_test(f, 16, 16 * 300, 1040);	/* nearly all is the second's */
	}
	for (enum matmul_format f : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 }) {
		dense_test(f, 100, 272);
		dense_test(f, few ? 20 : 50, 2320);	/* ten slices: two of a warp, and warps with one */
		dense_test(f, few ? 40 : 2048, 4096);
		if (few)
			continue;
		dense_test(f, 1, 16);
		dense_test(f, 1000, 512);
		dense_test(f, 50, 1296);		/* six: warps without one */
		dense_test(f, 3000, 2048);
		dense_test(f, 300, 17408);
	}
	printf("%d claims, %d failed\n", n_claims, n_failed);
	return n_failed ? 1 : 0;
}
