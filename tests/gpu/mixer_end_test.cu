/* mixer_end_test.cu - the end of a mixer in one kernel (decode_mixer_end()): the bits of decode_matmul(),
 * residual_add() and decode_matmul() or decode_matmul_pair(), at odd sizes, in every pair of formats, for 1 to 8
 * rows, with NaN and infinities, and launch behind launch in a chain as a step has it.
 *
 * --bench: us of such a chain with either; --few: fewer sizes and launches, for the sanitizers.  Exits 77
 * without a GPU or without the kernel. */
#include <errno.h>

#include "kernels/cuda/residual.h"
#include "tests/gpu/step_args.h"

static bool few;

/* Outputs and columns of the first product; rows of the router, and of gate and up together. */
struct shape {
	enum matmul_format f, shared;
	bool follows;	/* gate and up stand behind the router's rows; else a matrix of their own */
	uint32_t n, k, router, gate_up;
};

/* Weights of a layer, rows of a mixer's, and what is left of them. */
struct layer {
	const struct shape c;
	const uint32_t plain, act_ld;	/* plain: the router's rows as packed */
	packed out, router, shared;
	array<__nv_bfloat16> in, x, h, norm, act;
	array<float> y, logits;
	array<uint32_t> room, row_room;

	explicit layer(const struct shape &s)
		: c(s), plain((s.router + 15) / 16 * 16), act_ld(s.gate_up / 2 + 8), out(s.f, 1, s.n, s.k),
		  router(MATMUL_BF16, 1, s.follows ? plain + s.gate_up : s.router, s.n),
		  shared(s.shared, 1, s.gate_up ? s.gate_up : 16, s.n), in((size_t)END_MAX_ROWS * s.k),
		  x((size_t)END_MAX_ROWS * s.n), h(x.h.size()), norm(s.n), act((size_t)END_MAX_ROWS * act_ld),
		  y((size_t)END_MAX_ROWS * s.n), logits((size_t)END_MAX_ROWS * (s.router + 1)),
		  room(2 * (size_t)END_MAX_ROWS * s.n / 2), row_room(3000)
	{
		norm.fill_bf16();
		in.fill_bf16();
		CUDA(cudaMemset(room.d, 0, room.h.size() * 4));
	}
	struct decode_matmul_args first(uint32_t rows)
	{
		struct decode_matmul_args a = product_args(c.f, out.w.d, c.n, c.k, in.d, y.d, rows);

		a.row_scale = c.f == MATMUL_BF16 ? NULL : out.scale.d;
		return a;
	}
	struct decode_matmul_args scores(uint32_t rows)
	{
		struct decode_matmul_args a = product_args(MATMUL_BF16, router.w.d, c.router, c.n, h.d, logits.d, rows);

		a.ldy = c.router + 1;
		if (c.follows) {
			a.n_swiglu = c.gate_up;
			a.ldy_swiglu = act_ld;
			a.y_swiglu = act.d;
		}
		return a;
	}
	struct decode_matmul_args gate_up(uint32_t rows)
	{
		struct decode_matmul_args a = product_args(c.shared, shared.w.d, c.gate_up, c.n, h.d, (float *)act.d, rows);

		a.row_scale = c.shared == MATMUL_BF16 ? NULL : shared.scale.d;
		a.ldy = act_ld;
		a.out = MATMUL_OUT_SWIGLU;
		return a;
	}
	bool has_shared(void) const { return c.gate_up && !c.follows; }
	int apart(uint32_t rows, cudaStream_t s)
	{
		const struct decode_matmul_args product = first(rows), router = scores(rows), shared = gate_up(rows);
		struct residual_add_args res = {};
		int rc = decode_matmul(&product, s);

		res.x = x.d;
		res.h = h.d;
		res.norm = norm.d;
		res.y = y.d;
		res.rows = rows;
		res.width = c.n;
		res.slots = 1;
		res.eps = 1e-6f;
		rc = rc ? rc : residual_add(&res, s);
		return rc ? rc : has_shared() ? decode_matmul_pair(&router, &shared, s) : decode_matmul(&router, s);
	}
	/* turn: which room; the other is cleared on the way. */
	struct mixer_end_args end(uint32_t rows, uint32_t turn, const struct decode_matmul_args *shared)
	{
		const uint32_t each = (uint32_t)room.h.size() / 2;
		struct mixer_end_args a = {};

		a.out = first(rows);
		a.x = x.d;
		a.h = h.d;
		a.norm = norm.d;
		a.eps = 1e-6f;
		a.room = room.d + turn % 2 * each;
		a.router = scores(rows);
		a.shared = has_shared() ? shared : NULL;
		a.clear[0] = { room.d + (turn + 1) % 2 * each, rows * c.n / 2 };
		a.clear[1] = { row_room.d, (uint32_t)row_room.h.size() };
		return a;
	}
	int at_once(uint32_t rows, uint32_t turn, cudaStream_t s)
	{
		const struct decode_matmul_args shared = gate_up(rows);
		const struct mixer_end_args a = end(rows, turn, &shared);

		return decode_mixer_end(&a, s);
	}
	void begin(void)
	{
		for (size_t i = 0; i < x.h.size(); i++)
			x.h[i] = __float2bfloat16_rn((float)(i * 37 % 101) / 50 - 1);
		x.up();
		CUDA(cudaMemset(h.d, 0xee, h.h.size() * 2));
		CUDA(cudaMemset(act.d, 0xee, act.h.size() * 2));
		CUDA(cudaMemset(logits.d, 0xee, logits.h.size() * 4));
		CUDA(cudaMemset(row_room.d, 0xee, row_room.h.size() * 4));
	}
	/* All that either way leaves, rows that there are not included. */
	std::vector<uint32_t> left(void)
	{
		std::vector<uint32_t> v;

		for (array<__nv_bfloat16> *a : { &x, &h, &act }) {
			a->down();
			for (__nv_bfloat16 b : a->h)
				v.push_back(__bfloat16_as_ushort(b));
		}
		logits.down();
		for (float f : logits.h)
			v.push_back(__builtin_bit_cast(uint32_t, f));
		return v;
	}
	bool guarded(void) const
	{
		return x.guarded() && h.guarded() && act.guarded() && logits.guarded() && room.guarded() && row_room.guarded();
	}
	bool cleared(void)
	{
		row_room.down();
		return std::all_of(row_room.h.begin(), row_room.h.end(), [](uint32_t w) { return !w; });
	}
};

/* ---- bits ----------------------------------------------------------------------------------- */

static bool rows_same(layer &l, uint32_t rows)
{
	l.begin();
	int rc = l.apart(rows, NULL);
	const std::vector<uint32_t> want = l.left();

	l.begin();
	CUDA(cudaMemset(l.room.d, 0, l.room.h.size() * 4));
	rc |= l.at_once(rows, 0, NULL);
	return rc == 0 && want == l.left() && l.cleared() && l.guarded();
}

static bool shape_same(const struct shape &c)
{
	layer l(c);
	bool ok = true;

	for (uint32_t rows = 1; rows <= END_MAX_ROWS; rows += few ? 3 : 1) {
		const struct decode_matmul_args shared = l.gate_up(rows);
		const struct mixer_end_args a = l.end(rows, 0, &shared);

		if (!mixer_end_fits(&a) || rows_same(l, rows))
			continue;
		printf("  %s, then %s%s: %u x %u, %u and %u, %u rows differ\n", matmul_format_name(c.f),
		       matmul_format_name(c.shared), c.follows ? " behind the router" : "", c.n, c.k, c.router, c.gate_up, rows);
		ok = false;
	}
	return ok;
}

static void bits(void)
{
	/* n, k, router, gate_up */
	static const uint32_t size[][4] = {
		{ 2048, 4096, 257, 1024 }, { 272, 4096, 13, 32 }, { 48, 272, 33, 48 },
		{ 1296, 2064, 300, 1600 }, { 2000, 16, 1, 16 },	   { 16, 1040, 257, 0 },
	};
	bool ok = true;

	for (enum matmul_format f : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 })
		for (enum matmul_format shared : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 })
			for (const auto &s : size)
				for (int follows = 0; follows <= (shared == MATMUL_BF16 && s[3]); follows++)
					if (!few || s[0] < 300)
						ok = shape_same({ f, shared, follows != 0, s[0], s[1], s[2], s[3] }) && ok;
	claim("one_kernel_has_the_bits_of_kernels_apart", ok);
}

/* Whatever stands in a row comes through, and to no other row. */
static void not_numbers(void)
{
	layer l({ MATMUL_FP8, MATMUL_FP8, false, 272, 528, 40, 32 });
	bool ok = true;

	l.in.h[0 * 528 + 7] = __float2bfloat16_rn(NAN);
	l.in.h[2 * 528 + 527] = __float2bfloat16_rn(INFINITY);
	l.in.h[7 * 528] = __float2bfloat16_rn(-INFINITY);
	l.in.h[7 * 528 + 300] = __float2bfloat16_rn(INFINITY);
	l.in.up();
	for (uint32_t rows : { 1u, 3u, 8u })
		ok = rows_same(l, rows) && ok;
	claim("rows_of_nan_and_infinity_are_given_all_the_same", ok);
}

/* ---- in a chain ------------------------------------------------------------------------------ */

static constexpr uint32_t HIDDEN = 2048, VALUE = 4096;

/* Rounds as a step has layers: a product that makes the mixer's rows of the normed ones, then its end. */
struct chain {
	layer l;
	packed mixer;
	const uint32_t rows;

	chain(const struct shape &c, uint32_t n_rows) : l(c), mixer(MATMUL_FP8, 1, VALUE, HIDDEN), rows(n_rows) {}
	int round(uint32_t r, bool one, cudaStream_t s)
	{
		struct decode_matmul_args a = product_args(MATMUL_FP8, mixer.w.d, VALUE, HIDDEN, l.h.d, (float *)l.in.d, rows);
		int rc;

		a.row_scale = mixer.scale.d;
		a.out = MATMUL_OUT_BF16;
		rc = r ? decode_matmul(&a, s) : 0;
		return rc ? rc : one ? l.at_once(rows, r, s) : l.apart(rows, s);
	}
	void begin(void)
	{
		l.in.fill_bf16();
		l.begin();
		CUDA(cudaMemset(l.room.d, 0, l.room.h.size() * 4));
		CUDA(cudaDeviceSynchronize());
	}
};

static bool chain_same(const struct shape &c, uint32_t rows)
{
	chain a(c, rows);
	std::vector<uint32_t> want;
	cudaStream_t s;
	bool ok = true;

	CUDA(cudaStreamCreate(&s));
	for (int pass = 0; pass < 3; pass++) {
		rng_state = 99;
		a.begin();
		for (uint32_t r = 0; r < (few ? 3 : 401); r++)
			ok = ok && a.round(r, pass > 0, s) == 0;
		CUDA(cudaStreamSynchronize(s));
		if (pass == 0)
			want = a.l.left();
		ok = ok && want == a.l.left();
	}
	cudaStreamDestroy(s);
	return ok;
}

static const struct shape STEP[] = {
	{ MATMUL_FP8, MATMUL_FP8, false, HIDDEN, VALUE, 257, 1024 },
	{ MATMUL_BF16, MATMUL_BF16, true, HIDDEN, VALUE, 257, 1024 },
	{ MATMUL_NVFP4, MATMUL_NVFP4, false, HIDDEN, VALUE, 257, 1024 },
};

static void chains(void)
{
	bool ok = true;

	for (const struct shape &c : STEP)
		for (uint32_t rows : { 1u, 6u, 8u })
			ok = chain_same(c, rows) && ok;
	claim("rounds_of_a_step_have_the_bits_of_kernels_apart", ok);
}

static void bench(void)
{
	for (const struct shape &c : STEP)
		for (uint32_t rows : { 1u, 2u, 8u }) {
			chain a(c, rows);

			printf("%s, %u rows:", matmul_format_name(c.f), rows);
			for (int time = 0; time < 6; time++) {
				a.begin();
				printf(" %.2f", 1000 / 64.0 * graph_ms(21, [&](cudaStream_t s) {
					       for (uint32_t r = 0; r < 64; r++)
						       a.round(r, time % 2, s);
				       }));
			}
			printf(" us a round (apart, at once, apart, ...)\n");
		}
}

int main(int argc, char **argv)
{
	few = asked(argc, argv, "--few");
	if (!have_gpu())
		return 77;
	{
		layer l(STEP[0]);
		const struct decode_matmul_args shared = l.gate_up(1);
		const struct mixer_end_args a = l.end(1, 0, &shared);

		if (!mixer_end_fits(&a)) {
			printf("not on this GPU\n");
			return 77;
		}
	}
	if (asked(argc, argv, "--bench")) {
		bench();
		return 0;
	}
	bits();
	not_numbers();
	chains();
	return n_failed ? 1 : 0;
}
