/* mixer_end_emu_test.cc - the end of a mixer in one kernel, on blocks that are fibers (block.h), all at once: residual
 * rows, their norm and the products of it as ref_matmul.h would have them; a row's bits the same in any company and in
 * whatever order warps come and copies land; nobody waits for ever.  Bits are mixer_end_test's, on a GPU. */
#include "tests/emu/block.h"

#include "kernels/cuda/decode_args.cu"
#include "kernels/cuda/decode_end.cu"

#include "tests/emu/memory.h"
#include "tests/emu/stacked.h"

#include <memory>

static constexpr uint32_t CLEARED = 1500 / 4 * 4;

/* Outputs and columns of the first product; rows of the router, and of gate and up together. */
struct shape {
	enum matmul_format f, shared;
	bool follows;	/* gate and up stand behind the router's rows; else a matrix of their own */
	uint32_t n, k, router, gate_up;
};

/* A layer's weights, and rows of END_MAX_ROWS tokens. */
struct layer {
	const struct shape c;
	const uint32_t plain;	/* the router's rows as packed */
	stacked out, router, shared;
	array<uint16_t> in, x, h, norm, act;
	array<float> logits;
	array<uint32_t> room, clear[MIXER_END_CLEARS];
	std::vector<uint16_t> first_x, rows_in;

	explicit layer(const struct shape &s)
		: c(s), plain((s.router + 15) / 16 * 16), out(s.f, 1, s.n, s.k),
		  router(MATMUL_BF16, 1, s.follows ? plain + s.gate_up : s.router, s.n),
		  shared(s.shared, 1, s.gate_up ? s.gate_up : 16, s.n), in(END_MAX_ROWS * (s.k + 8)),
		  x(END_MAX_ROWS * s.n), h(END_MAX_ROWS * s.n), norm(s.n), act(END_MAX_ROWS * (s.gate_up / 2 + 3)),
		  logits(END_MAX_ROWS * (s.router + 1)), room(END_MAX_ROWS * s.n / 2), clear{ array<uint32_t>(CLEARED),
											      array<uint32_t>(CLEARED) }
	{
		for (uint16_t &v : norm.h)
			v = bf16_bits(((int)below(2001) - 1000) / 4000.0f);
		norm.up();
		for (uint32_t i = 0; i < x.h.size(); i++)
			first_x.push_back(bf16_bits((float)(i * 37 % 101) / 50 - 1));
		for (uint32_t i = 0; i < END_MAX_ROWS * s.k; i++)
			rows_in.push_back(bf16_bits(((int)below(2001) - 1000) / 4000.0f));
	}
	struct mixer_end_args args(uint32_t rows, struct decode_matmul_args *gate_up)
	{
		struct mixer_end_args a = {};

		a.out.w = out.packed.d;
		a.out.row_scale = c.f == MATMUL_BF16 ? NULL : out.scale.d;
		a.out.format = c.f;
		a.out.x = in.d;
		a.out.y = x.d;	/* not looked at */
		a.out.n_rows = rows;
		a.out.n = a.out.ldy = c.n;
		a.out.k = c.k;
		a.out.ldx = c.k + 8;
		a.x = x.d;
		a.h = h.d;
		a.norm = norm.d;
		a.eps = 1e-6f;
		a.room = room.d;
		a.router.w = router.packed.d;
		a.router.format = MATMUL_BF16;
		a.router.x = h.d;
		a.router.y = logits.d;
		a.router.n_rows = rows;
		a.router.n = c.router;
		a.router.k = a.router.ldx = c.n;
		a.router.ldy = c.router + 1;
		*gate_up = a.router;
		gate_up->w = shared.packed.d;
		gate_up->row_scale = c.shared == MATMUL_BF16 ? NULL : shared.scale.d;
		gate_up->format = c.shared;
		gate_up->y = act.d;
		gate_up->n = c.gate_up;
		gate_up->ldy = c.gate_up / 2 + 3;
		gate_up->out = MATMUL_OUT_SWIGLU;
		if (c.follows) {
			a.router.n_swiglu = c.gate_up;
			a.router.ldy_swiglu = c.gate_up / 2 + 3;
			a.router.y_swiglu = act.d;
		} else if (c.gate_up) {
			a.shared = gate_up;
		}
		for (int i = 0; i < MIXER_END_CLEARS; i++)
			a.clear[i] = { clear[i].d, CLEARED };
		return a;
	}
	/* Tokens `first` and those behind it. */
	int run(uint32_t first, uint32_t rows)
	{
		struct decode_matmul_args gate_up;
		const struct mixer_end_args a = args(rows, &gate_up);

		std::fill(in.h.begin(), in.h.end(), 0x7fc0);	/* NaN where nobody should look */
		std::fill(x.h.begin(), x.h.end(), 0x7fc0);
		for (uint32_t r = 0; r < rows; r++) {
			memcpy(&in.h[r * (c.k + 8)], &rows_in[(first + r) * c.k], c.k * 2);
			memcpy(&x.h[r * c.n], &first_x[(first + r) * c.n], c.n * 2);
		}
		in.up();
		x.up();
		memset(room.d, 0, rows * c.n / 2 * 4);
		memset(h.d, 0xee, h.h.size() * 2);
		memset(act.d, 0xee, act.h.size() * 2);
		memset(logits.d, 0xee, logits.h.size() * 4);
		for (array<uint32_t> &z : clear)
			memset(z.d, 0xee, CLEARED * 4);

		const int rc = decode_mixer_end(&a, NULL);

		x.down();
		h.down();
		act.down();
		logits.down();
		for (array<uint32_t> &z : clear)
			z.down();
		return rc;
	}
	/* All that the kernel has left of one row. */
	std::vector<uint32_t> left(uint32_t row)
	{
		std::vector<uint32_t> v;

		v.insert(v.end(), &x.h[row * c.n], &x.h[row * c.n] + c.n);
		v.insert(v.end(), &h.h[row * c.n], &h.h[row * c.n] + c.n);
		for (uint32_t i = 0; i < c.gate_up / 2; i++)
			v.push_back(act.h[row * (c.gate_up / 2 + 3) + i]);
		for (uint32_t i = 0; i < c.router; i++)
			v.push_back(__float_as_uint(logits.h[row * (c.router + 1) + i]));
		return v;
	}
	/* Nothing beside its outputs is written, and what is to be cleared is. */
	bool kept(uint32_t rows)
	{
		bool ok = x.guarded() && h.guarded() && act.guarded() && logits.guarded() && room.guarded() && in.guarded();

		for (uint32_t r = 0; r < END_MAX_ROWS; r++) {
			for (uint32_t i = r < rows ? c.gate_up / 2 : 0; i < c.gate_up / 2 + 3; i++)
				ok = ok && act.h[r * (c.gate_up / 2 + 3) + i] == 0xeeee;
			for (uint32_t i = r < rows ? c.router : 0; i < c.router + 1; i++)
				ok = ok && __float_as_uint(logits.h[r * (c.router + 1) + i]) == 0xeeeeeeee;
			for (uint32_t i = 0; r >= rows && i < c.n; i++)
				ok = ok && h.h[r * c.n + i] == 0xeeee && x.h[r * c.n + i] == 0x7fc0;
		}
		for (const array<uint32_t> &z : clear)
			ok = ok && z.guarded() && std::all_of(z.h.begin(), z.h.end(), [](uint32_t w) { return !w; });
		return ok;
	}
};

/* A bound of 1/200 is that of a value rounded the other way to bfloat16. */
static bool near(const char *what, uint32_t row, uint32_t i, double got, double want, double size)
{
	if (fabs(got - want) <= size / 200 + fabs(want) / 200 + 1e-30)
		return true;
	printf("  %s of row %u, %u: %g, not %g\n", what, row, i, got, want);
	return false;
}

/* Row `row` of what is left, of token `token`; the norm and what follows of the row as the kernel has rounded it. */
static bool right(layer &l, uint32_t row, uint32_t token)
{
	const uint32_t n = l.c.n, gate_up = l.c.gate_up;
	const uint16_t *x = &l.x.h[row * n], *h = &l.h.h[row * n];
	double squares = 0, size, other;
	bool ok = true;

	for (uint32_t i = 0; i < n; i++) {
		const double old = ref_bf16(l.first_x[token * n + i]);
		const double y = dot(l.out.one[0], i, &l.rows_in[token * l.c.k], &size);

		ok = near("residual", row, i, ref_bf16(x[i]), old + y, size / 20000) && ok;
		squares += (double)ref_bf16(x[i]) * ref_bf16(x[i]);
	}
	for (uint32_t i = 0; i < n; i++)
		ok = near("norm", row, i, ref_bf16(h[i]), ref_bf16(x[i]) / sqrt(squares / n + 1e-6) * (1.0 + ref_bf16(l.norm.h[i])),
			  0) && ok;
	for (uint32_t i = 0; i < l.c.router; i++) {
		const double want = dot(l.router.one[0], i, h, &size);

		ok = near("logit", row, i, l.logits.h[row * (l.c.router + 1) + i], want, size / 20000) && ok;
	}
	for (uint32_t i = 0; i < gate_up / 2; i++) {
		const struct matrix &m = l.c.follows ? l.router.one[0] : l.shared.one[0];
		const uint32_t at = (l.c.follows ? l.plain : 0) + i / 8 * 16 + i % 8;
		const double gate = dot(m, at, h, &size), up = dot(m, at + 8, h, &other);

		ok = near("act", row, i, ref_bf16(l.act.h[row * (gate_up / 2 + 3) + i]), gate / (1 + exp(-gate)) * up,
			  (size * fabs(up) + other * fabs(gate)) / 20000) && ok;
	}
	return ok;
}

/* Each token alone, right; then in any company and order, the same bits. */
static bool same_in_company(const struct shape &c, const std::vector<uint32_t> &companies)
{
	layer l(c);
	std::vector<uint32_t> alone[END_MAX_ROWS];
	bool ok = true;

	emu_sms = (int)std::max((c.n + 15) / 16, (l.plain + c.gate_up) / 16) + 1;
	for (uint32_t token = 0; ok && token < *std::max_element(companies.begin(), companies.end()); token++) {
		emu::seed(token % 2 ? token * 77777 : 0);
		ok = l.run(token, 1) == 0 && l.kept(1) && right(l, 0, token);
		alone[token] = l.left(0);
	}
	for (uint32_t rows : companies)
		for (uint32_t order = 0; ok && order < 2; order++) {
			emu::seed(order * (rows + 33333));
			ok = l.run(0, rows) == 0 && l.kept(rows);
			for (uint32_t r = 0; ok && r < rows; r++)
				if (l.left(r) != alone[r]) {
					printf("  row %u of %u is another\n", r, rows);
					ok = false;
				}
		}
	emu::seed(0);
	emu_sms = 132;
	return ok;
}

/* One row in many orders. */
static bool any_order(const struct shape &c, uint32_t orders)
{
	layer l(c);
	bool ok;

	emu_sms = (int)std::max((c.n + 15) / 16, (l.plain + c.gate_up) / 16) + 2;
	emu::seed(0);
	ok = l.run(0, 1) == 0 && l.kept(1) && right(l, 0, 0);

	const std::vector<uint32_t> first = l.left(0);

	for (uint32_t s = 1; ok && s <= orders; s++) {
		emu::seed(s * 991);
		ok = l.run(0, 1) == 0 && l.kept(1) && l.left(0) == first;
	}
	emu::seed(0);
	emu_sms = 132;
	return ok;
}

static void formats(void)
{
	for (enum matmul_format f : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 })
		for (enum matmul_format shared : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 }) {
			const bool follows = shared == MATMUL_BF16 && f != MATMUL_FP8;
			char name[80];

			/* a slice or two of K; tiles without all rows */
			bool ok = same_in_company({ f, shared, follows, 48, 272, 13, 32 }, { 2, 5, 8 });

			ok = same_in_company({ f, shared, follows, shared == MATMUL_BF16 ? 264u : 272u, 16, 33, 16 }, { 3, 7 }) && ok;
			snprintf(name, sizeof name, "%s_then_%s%s_in_any_company", matmul_format_name(f),
				 matmul_format_name(shared), follows ? "_behind_the_router" : "");
			claim(name, ok);
		}
}

/* As many slices as fit, in and out; more blocks than tiles; no shared expert. */
static void sizes(void)
{
	bool ok = same_in_company({ MATMUL_FP8, MATMUL_FP8, false, 48, 4096, 257, 48 }, { 8 });

	ok = same_in_company({ MATMUL_BF16, MATMUL_BF16, true, 24, 3848, 5, 32 }, { 4, 7 }) && ok;
	/* h where the first product's tile was */
	ok = same_in_company({ MATMUL_BF16, MATMUL_BF16, true, 1544, 3848, 5, 32 }, { 8 }) && ok;
	ok = any_order({ MATMUL_NVFP4, MATMUL_FP8, false, 2048, 16, 5, 16 }, 1) && ok;
	ok = any_order({ MATMUL_FP8, MATMUL_NVFP4, false, 1296, 528, 20, 32 }, 1) && ok;
	ok = same_in_company({ MATMUL_NVFP4, MATMUL_BF16, false, 16, 64, 1, 0 }, { 1, 4, 8 }) && ok;
	claim("as_much_as_fits", ok);
	ok = any_order({ MATMUL_FP8, MATMUL_FP8, false, 80, 528, 40, 32 }, 40);
	ok = any_order({ MATMUL_BF16, MATMUL_NVFP4, false, 272, 2064, 40, 32 }, 10) && ok;
	claim("one_row_in_any_order", ok);
}

/* What the kernel cannot do is said before anything is done. */
static void refusals(void)
{
	const struct shape c = { MATMUL_FP8, MATMUL_FP8, false, 48, 272, 13, 32 };
	layer l(c);
	struct decode_matmul_args g;
	const struct mixer_end_args good = l.args(3, &g);
	bool ok = mixer_end_fits(&good);
	const auto refused = [&](const char *what, const auto &change) {
		struct mixer_end_args a = good;
		struct decode_matmul_args shared = g;

		a.shared = &shared;
		change(a, shared);
		if (!mixer_end_fits(&a) && decode_mixer_end(&a, NULL) == -EINVAL)
			return;
		printf("  taken: %s\n", what);
		ok = false;
	};
	typedef struct mixer_end_args &args;
	typedef struct decode_matmul_args &product;

	refused("no room", [](args a, product) { a.room = NULL; });
	refused("a room that is not aligned", [](args a, product) { a.room++; });
	refused("nine rows", [](args a, product s) { a.out.n_rows = a.router.n_rows = s.n_rows = 9; });
	refused("rows that differ", [](args a, product) { a.router.n_rows = 2; });
	refused("the shared expert's rows differ", [](args, product s) { s.n_rows = 2; });
	refused("bfloat16 out", [](args a, product) { a.out.out = MATMUL_OUT_BF16; });
	refused("x in the order of steps", [](args a, product) { a.out.x_ordered = 1; });
	refused("gate and up behind the first product", [](args a, product) { a.out.n_swiglu = 16; });
	refused("rows that are not aligned", [](args a, product) { a.x = (char *)a.x + 2; });
	refused("a norm that is not aligned", [](args a, product) { a.norm = (const char *)a.norm + 2; });
	refused("a router's x in the order of steps", [](args a, product) { a.router.x_ordered = 1; });
	refused("17 slices", [](args a, product) { a.out.k = a.out.ldx = 4104; });
	refused("a wider row", [](args a, product s) { a.out.n = a.router.k = s.k = a.router.ldx = s.ldx = a.out.ldy = 2056; });
	refused("a row that is not of eights", [](args a, product s) { a.out.n = a.router.k = s.k = 44; });
	refused("a router of other columns", [](args a, product) { a.router.k = 40; });
	refused("a router of something else", [](args a, product) { a.router.x = a.x; });
	refused("a router that is quantised", [](args a, product) { a.router.format = MATMUL_FP8; });
	refused("gate and up as they are", [](args, product s) { s.out = MATMUL_OUT_F32; });
	refused("words that are not of fours", [](args a, product) { a.clear[1].n = 6; });
	refused("words that are not aligned", [](args a, product) { a.clear[0].at++; });
	refused("more tiles than blocks", [](args a, product) { a.router.n = a.router.ldy = 132 * 16; });
	claim("what_does_not_fit_is_refused", ok);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	emu_at_once = true;
	formats();
	sizes();
	refusals();
	return n_failed != 0;
}
