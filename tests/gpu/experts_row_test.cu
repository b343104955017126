/* experts_row_test.cu - the experts of one row in one kernel (decode_experts_row()): the bits of
 * decode_experts() and decode_experts_sum(), and what they leave of the choice, at odd sizes, in every
 * pair of formats, with equal logits and NaN, launch behind launch with other inputs, and in a chain
 * as a step has it; and with the next layer's first products, the bits of residual_add() and decode_matmul().
 *
 * --bench: us of such a chain with either; --few: fewer sizes and launches, for the sanitizers.  Exits 77
 * without a GPU or without the kernel. */
#include <errno.h>

#include "kernels/cuda/residual.h"
#include "tests/gpu/step_args.h"

static bool few;

struct shape {
	enum matmul_format f, last;
	bool shared, has_last;	/* a shared expert; its last matrix is its own */
	uint32_t experts, top, n, k, inter, last_k;
};

/* Weights of a layer and what its kernels write, of `rounds` rows one after the other. */
struct layer {
	const struct shape c;
	const uint32_t slots, rounds;
	packed up, down, last;
	array<__nv_bfloat16> x, act, last_x;
	array<float> logits, y;
	array<uint32_t> room, choice;	/* choice: of a round ids, weights and the list */
	size_t choice_words;

	layer(const struct shape &s, uint32_t n_rounds)
		: c(s), slots(s.top + s.shared), rounds(n_rounds),
		  up(s.f, s.experts + 1, 2 * s.inter, s.k), down(s.f, s.experts + 1, s.n, s.inter),
		  last(s.last, 1, s.n, s.last_k), x((size_t)n_rounds * s.k),
		  act((size_t)slots * s.inter), last_x(s.last_k),
		  logits((size_t)n_rounds * (s.experts + 1)), y((size_t)n_rounds * s.n),
		  room((size_t)s.top * s.inter / 2),
		  choice(n_rounds * (32 + (expert_list_bytes(1, 16, s.experts + 1) + 15) / 16 * 4)),
		  choice_words(choice.h.size() / n_rounds)
	{
		x.fill_bf16();
		last_x.fill_bf16();
		act.fill_bf16();
	}
	void poison(void)
	{
		CUDA(cudaMemset(y.d, 0xee, y.h.size() * 4));
		CUDA(cudaMemset(choice.d, 0xee, choice.h.size() * 4));
	}
	struct route_args route(uint32_t round)
	{
		uint32_t *to = choice.d + round * choice_words;
		struct route_args a = {};

		a.logits = logits.d + (size_t)round * (c.experts + 1);
		a.rows = 1;
		a.experts = c.experts;
		a.stride = c.experts + 1;
		a.top = c.top;
		a.shared = c.shared;
		a.list_shared = c.shared && !c.has_last;
		a.ids = to;
		a.weights = (float *)(to + 16);
		a.list = expert_list_at(to + 32, 1, slots, c.experts + 1);
		return a;
	}
	struct experts_row_args args(uint32_t round, const struct route_args *route,
				     struct decode_matmul_args *l)
	{
		struct experts_row_args a = {};
		struct decode_experts_args &e = a.first, &d = a.sum.experts;

		e.w = up.w.d;
		e.row_scale = up.scale.d;
		e.format = c.f;
		e.x = x.d + (size_t)round * c.k;
		e.y = act.d;
		e.choice = route;
		e.n_rows = 1;
		e.n_slots = slots;
		e.n_experts = c.experts + route->list_shared;
		e.n = 2 * c.inter;
		e.k = e.ldx = c.k;
		e.ldy = c.inter;
		e.out = MATMUL_OUT_SWIGLU;
		e.without_last = route->list_shared;
		d = e;
		d.w = down.w.d;
		d.row_scale = down.scale.d;
		d.x = act.d;
		d.y = y.d + (size_t)round * c.n;
		d.n = d.ldy = c.n;
		d.k = d.ldx = c.inter;
		d.x_per_slot = 1;
		d.without_last = 0;
		d.out = MATMUL_OUT_F32;
		*l = product_args(c.last, last.w.d, c.n, c.last_k, last_x.d, (float *)d.y, 1);
		l->row_scale = c.last == MATMUL_BF16 ? NULL : last.scale.d;
		a.sum.last = c.has_last ? l : NULL;
		a.sum.ids = route->ids;
		a.sum.weights = route->weights;
		a.room = room.d;
		return a;
	}
	/* One round, by one kernel or by two. */
	int run(uint32_t round, bool one, int x_settled, cudaStream_t s)
	{
		const struct route_args r = route(round);
		struct decode_matmul_args l;
		struct experts_row_args a = args(round, &r, &l);
		int rc;

		a.x_settled = x_settled;
		if (one)
			return decode_experts_row(&a, s);
		rc = decode_experts(&a.first, s);
		return rc ? rc : decode_experts_sum(&a.sum, s);
	}
};

/* Logits of any kind, by round. */
static void fill_logits(struct layer &l)
{
	const uint32_t n = l.c.experts + 1;

	for (uint32_t r = 0; r < l.rounds; r++)
		for (uint32_t i = 0; i < n; i++) {
			float v = 4 * uniform();

			switch (r % 8) {
			case 1: v = floorf(v); break;			/* many equals */
			case 2: v = 1; break;				/* nothing else */
			case 3: v = rng() % 2 ? v : NAN; break;
			case 4: v = i % 37 == 5 ? v : NAN; break;	/* fewer numbers than slots, maybe */
			case 5: v = NAN; break;
			case 6: v = rng() % 3 ? INFINITY * v : copysignf(0, v); break;
			}
			l.logits.h[r * n + i] = v;
		}
	l.logits.up();
}

static bool same(const std::vector<float> &a, const std::vector<float> &b)
{
	return !memcmp(a.data(), b.data(), a.size() * 4);
}

/* Of all rounds: ids, weights and how many experts were active. */
static std::vector<uint32_t> chosen(struct layer &l)
{
	std::vector<uint32_t> all;

	l.choice.down();
	for (uint32_t r = 0; r < l.rounds; r++) {
		const uint32_t *at = &l.choice.h[r * l.choice_words];
		const ptrdiff_t active = l.route(r).list.n_active - (l.choice.d + r * l.choice_words);

		all.insert(all.end(), at, at + l.slots);
		all.insert(all.end(), at + 16, at + 16 + l.slots);
		all.push_back(at[active]);
	}
	return all;
}

static bool rounds_same(const struct shape &c)
{
	layer l(c, few ? 17 : 64);
	int rc = 0;

	fill_logits(l);
	/* A row with a NaN and one with an infinity: act is there all the same. */
	l.x.h[9 * c.k + 3] = __float2bfloat16_rn(NAN);
	l.x.h[16 * c.k] = __float2bfloat16_rn(INFINITY);
	l.x.up();
	l.poison();
	for (uint32_t r = 0; r < l.rounds; r++)
		rc |= l.run(r, false, 0, NULL);
	l.y.down();

	const std::vector<float> y = l.y.h;
	const std::vector<uint32_t> choice = chosen(l);
	bool ok = rc == 0;

	for (int settled = 0; settled < 2; settled++) {
		l.poison();
		for (uint32_t r = 0; r < l.rounds; r++) {
			CUDA(cudaMemsetAsync(l.room.d, 0, l.room.h.size() * 4));
			rc |= l.run(r, true, settled, NULL);
		}
		CUDA(cudaDeviceSynchronize());
		l.y.down();
		ok = ok && rc == 0 && same(y, l.y.h) && choice == chosen(l) && l.y.guarded() &&
		     l.choice.guarded() && l.room.guarded();
	}
	return ok;
}

static void bits(void)
{
	/* experts, top, n, k, inter, last_k */
	static const uint32_t size[][6] = {
		{ 40, 8, 2048, 2048, 512, 512 },   { 256, 8, 272, 256, 64, 768 },
		{ 200, 3, 257, 776, 264, 264 },	   { 8, 6, 2000, 1288, 520, 8 },
		{ 33, 1, 16, 8, 8, 512 },	   { 255, 5, 1000, 2040, 136, 1032 },
	};
	bool ok = true;

	for (enum matmul_format f : { MATMUL_FP8, MATMUL_NVFP4 })
		for (enum matmul_format last : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 })
			for (const auto &s : size)
				for (int shared = 0; shared < 2; shared++) {
					const bool has = shared && last != f;
					const struct shape c = { f, last, shared != 0, has, s[0], s[1],
								 s[2], s[3], s[4], s[5] };

					if ((!shared && last != f) || (few && s[2] > 512) || rounds_same(c))
						continue;
					printf("  %s, last %s: %u of %u, %u x %u, inter %u differ\n",
					       matmul_format_name(f),
					       has	? matmul_format_name(last) :
					       shared	? "the same" :
							  "none",
					       s[1], s[0], s[2], s[3], s[4]);
					ok = false;
				}
	claim("one_kernel_has_the_bits_of_two", ok);
}

/* ---- with what follows ----------------------------------------------------------------------- */

/* A residual row, its norm and one or two products of it, made by kernels of their own or by the experts'. */
struct follow {
	layer &l;
	const uint32_t width, n[2], n_products;
	const enum matmul_format f[2];
	packed first, second;
	array<__nv_bfloat16> x, h, norm, u;
	array<uint32_t> room;
	struct experts_row_next next = {};

	follow(layer &of, const enum matmul_format (&formats)[2], const uint32_t (&rows)[2], uint32_t products)
		: l(of), width(of.c.n), n{ rows[0], rows[1] }, n_products(products), f{ formats[0], formats[1] },
		  first(f[0], 1, n[0], width), second(f[1], 1, n[1], width), x(width), h(width), norm(width),
		  u((size_t)of.rounds * (n[0] + n[1])), room(of.room.h.size() + width / 2)
	{
		norm.fill_bf16();
	}
	void begin(void)
	{
		for (uint32_t i = 0; i < width; i++)
			x.h[i] = __float2bfloat16_rn((float)(i * 37 % 101) / 50 - 1);
		x.up();
		CUDA(cudaMemset(u.d, 0xee, u.h.size() * 2));
		l.poison();
	}
	struct decode_matmul_args product(uint32_t round, uint32_t i)
	{
		packed &w = i ? second : first;
		struct decode_matmul_args a = product_args(f[i], w.w.d, n[i], width, h.d,
							   (float *)(u.d + (size_t)round * (n[0] + n[1]) + (i ? n[0] : 0)), 1);

		a.row_scale = f[i] == MATMUL_BF16 ? NULL : w.scale.d;
		a.out = MATMUL_OUT_BF16;
		return a;
	}
	void arguments(uint32_t round, struct experts_row_args *ret)
	{
		next.x = x.d;
		next.norm = norm.d;
		next.eps = 1e-6f;
		next.room = room.d + l.room.h.size();
		next.n_products = n_products;
		for (uint32_t i = 0; i < n_products; i++)
			next.product[i] = product(round, i);
		ret->room = room.d;
		ret->next = &next;
	}
	int apart(uint32_t round, cudaStream_t s)
	{
		struct residual_add_args res = {};
		int rc = l.run(round, false, 0, s);

		res.x = x.d;
		res.h = h.d;
		res.norm = norm.d;
		res.y = l.y.d + (size_t)round * width;
		res.rows = res.slots = 1;
		res.width = width;
		res.eps = 1e-6f;
		rc = rc ? rc : residual_add(&res, s);
		for (uint32_t i = 0; !rc && i < n_products; i++) {
			const struct decode_matmul_args a = product(round, i);

			rc = decode_matmul(&a, s);
		}
		return rc;
	}
	int at_once(uint32_t round, cudaStream_t s)
	{
		const struct route_args r = l.route(round);
		struct decode_matmul_args last;
		struct experts_row_args a = l.args(round, &r, &last);

		arguments(round, &a);
		a.x_settled = round % 2;
		if (!experts_row_fits(&a))
			return -EINVAL;
		CUDA(cudaMemsetAsync(room.d, 0, room.h.size() * 4, s));
		return decode_experts_row(&a, s);
	}
};

static bool follows_same(const struct shape &c, const enum matmul_format (&f)[2], const uint32_t (&n)[2], uint32_t products)
{
	layer l(c, few ? 6 : 24);
	follow t(l, f, n, products);
	std::vector<__nv_bfloat16> u, x;
	std::vector<uint32_t> choice;
	bool ok = true;

	fill_logits(l);
	l.x.h[9 % l.rounds * c.k + 3] = __float2bfloat16_rn(NAN);
	l.x.up();
	for (int once = 0; once < 2; once++) {
		t.begin();
		for (uint32_t r = 0; r < l.rounds; r++) {
			/* A row that became NaN stays so: begin anew. */
			if (r % 8 == 0) {
				CUDA(cudaStreamSynchronize(NULL));
				t.x.up();
			}
			ok = ok && (once ? t.at_once(r, NULL) : t.apart(r, NULL)) == 0;
		}
		CUDA(cudaDeviceSynchronize());
		t.u.down();
		t.x.down();
		if (!once) {
			u = t.u.h;
			x = t.x.h;
			choice = chosen(l);
		}
	}
	return ok && !memcmp(u.data(), t.u.h.data(), u.size() * 2) && !memcmp(x.data(), t.x.h.data(), x.size() * 2) &&
	       choice == chosen(l) && t.u.guarded() && t.x.guarded() && t.room.guarded();
}

static void follows(void)
{
	/* experts, top, n, k, inter, last_k; outputs of the products */
	static const uint32_t size[][8] = {
		{ 40, 8, 2048, 2048, 512, 512, 12288, 64 }, { 33, 8, 2048, 2048, 512, 512, 9216, 7 },
		{ 256, 8, 272, 256, 64, 768, 1111, 100 },    { 8, 6, 2000, 1288, 520, 8, 5000, 64 },
		{ 33, 1, 16, 8, 8, 512, 250, 1 },	     { 255, 5, 1000, 2040, 136, 1032, 16, 2000 },
	};
	static const enum matmul_format pair[][2] = { { MATMUL_FP8, MATMUL_BF16 }, { MATMUL_BF16, MATMUL_BF16 } };
	bool ok = true;

	for (enum matmul_format f : { MATMUL_FP8, MATMUL_NVFP4 })
		for (enum matmul_format last : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 })
			for (const auto &s : size)
				for (const auto &p : pair)
					for (uint32_t products = 1; products <= 2; products++) {
						const struct shape c = { f, last, true, last != f, s[0], s[1], s[2],
									 s[3], s[4], s[5] };
						const uint32_t n[2] = { s[6], s[7] };

						if ((few && s[2] > 512) || follows_same(c, p, n, products))
							continue;
						printf("  %s, last %s, then %u of %s: %u of %u, %u x %u, inter %u, "
						       "outputs %u, %u differ\n", matmul_format_name(f),
						       matmul_format_name(last), products, matmul_format_name(p[0]),
						       s[1], s[0], s[2], s[3], s[4], s[6], s[7]);
						ok = false;
					}
	claim("with_what_follows_it_has_the_bits_of_kernels_apart", ok);
}

/* ---- in a chain ------------------------------------------------------------------------------ */

static constexpr uint32_t HIDDEN = 2048, INTER = 512;

/* Rows as a step has them, one layer's weights again and again: residual and norm, router with the
 * shared expert's gate and up, experts. */
struct chain {
	layer l;
	packed router;
	array<__nv_bfloat16> x, h, norm;
	array<float> noise;	/* [rounds + 1][HIDDEN], for a chain in which rows go their own way */
	bool noisy = false;

	explicit chain(const struct shape &c, uint32_t rounds)
		: l(c, rounds), router(MATMUL_BF16, 1, c.experts + 16 + 2 * INTER, HIDDEN), x(HIDDEN),
		  h(HIDDEN), norm(HIDDEN), noise((size_t)(rounds + 1) * HIDDEN)
	{
		norm.fill_bf16();
		for (float &v : noise.h)
			v = uniform();
		noise.up();
	}
	int round(uint32_t r, bool one, cudaStream_t s)
	{
		const struct route_args route = l.route(r);
		struct decode_matmul_args last, p = {};
		struct experts_row_args a = l.args(r, &route, &last);
		struct residual_add_args res = {};
		int rc;

		res.x = x.d;
		res.h = h.d;
		res.norm = norm.d;
		res.y = r && !noisy ? l.y.d + (size_t)(r - 1) * HIDDEN : noise.d + (size_t)r * HIDDEN;
		res.rows = 1;
		res.width = HIDDEN;
		res.slots = 1;
		res.eps = 1e-6f;
		res.clear = l.room.d;
		res.n_clear = one ? (uint32_t)l.room.h.size() : 0;
		p = product_args(MATMUL_BF16, router.w.d, l.c.experts + 1, HIDDEN, h.d, (float *)route.logits,
				 1);
		p.n_swiglu = 2 * INTER;
		p.ldy_swiglu = INTER;
		p.y_swiglu = l.c.has_last ? (void *)l.last_x.d : (void *)(l.act.d + l.c.top * INTER);
		a.first.x = h.d;
		a.x_settled = 1;
		rc = residual_add(&res, s);
		rc = rc ? rc : decode_matmul(&p, s);
		if (one)
			return rc ? rc : decode_experts_row(&a, s);
		rc = rc ? rc : decode_experts(&a.first, s);
		return rc ? rc : decode_experts_sum(&a.sum, s);
	}
	void begin(void)
	{
		for (uint32_t i = 0; i < HIDDEN; i++)
			x.h[i] = __float2bfloat16_rn((float)(i * 37 % 101) / 50 - 1);
		x.up();
		l.poison();
	}
};

static bool chain_same(const struct shape &c, bool noisy)
{
	chain a(c, few ? 3 : 400);
	std::vector<float> want;
	std::vector<uint32_t> choice;
	cudaStream_t s;
	bool ok = true;

	a.noisy = noisy;
	CUDA(cudaStreamCreate(&s));
	for (int pass = 0; pass < 3; pass++) {
		a.begin();
		CUDA(cudaDeviceSynchronize());
		for (uint32_t r = 0; r < a.l.rounds; r++)
			ok = ok && a.round(r, pass > 0, s) == 0;
		CUDA(cudaStreamSynchronize(s));
		a.l.y.down();
		if (pass == 0) {
			want = a.l.y.h;
			choice = chosen(a.l);
		}
		ok = ok && same(want, a.l.y.h) && choice == chosen(a.l);
	}
	cudaStreamDestroy(s);
	return ok;
}

static const struct shape STEP[] = {
	{ MATMUL_NVFP4, MATMUL_FP8, true, true, 256, 8, HIDDEN, HIDDEN, INTER, INTER },
	{ MATMUL_NVFP4, MATMUL_NVFP4, true, false, 256, 8, HIDDEN, HIDDEN, INTER, INTER },
	{ MATMUL_FP8, MATMUL_FP8, true, false, 256, 8, HIDDEN, HIDDEN, INTER, INTER },
};

static void chains(void)
{
	bool ok = true;

	for (const struct shape &c : STEP)
		for (int noisy = 0; noisy < 2; noisy++)
			ok = ok && chain_same(c, noisy != 0);
	claim("rounds_of_a_step_have_the_bits_of_two_kernels", ok);
}

static void bench(void)
{
	for (const struct shape &c : STEP) {
		chain a(c, 64);

		a.noisy = true;	/* other experts every round */
		printf("%s, last %s:", matmul_format_name(c.f), c.has_last ? matmul_format_name(c.last) : "the same");
		for (int time = 0; time < 6; time++) {
			a.begin();
			printf(" %.2f", 1000 / 64.0 * graph_ms(21, [&](cudaStream_t s) {
				       for (uint32_t r = 0; r < 64; r++)
					       a.round(r, time % 2, s);
			       }));
		}
		printf(" us a round (two kernels, one, two, ...)\n");
	}
}

static void refusals(void)
{
	const struct shape c = { MATMUL_NVFP4, MATMUL_FP8, true, true, 20, 4, 256, 256, 64, 64 };
	layer l(c, 1);
	const struct route_args r = l.route(0);
	struct decode_matmul_args last;
	const struct experts_row_args good = l.args(0, &r, &last);
	struct experts_row_args a = good;
	bool ok = experts_row_fits(&good);

	a.room = NULL;
	ok = ok && !experts_row_fits(&a) && decode_experts_row(&a, NULL) == -EINVAL;
	a = good;
	a.room++;	/* off alignment */
	ok = ok && decode_experts_row(&a, NULL) == -EINVAL;
	a = good;
	a.first.n_experts--;	/* fewer than are chosen from */
	ok = ok && decode_experts_row(&a, NULL) == -EINVAL;
	a = good;
	a.sum.experts.n_experts--;
	ok = ok && decode_experts_row(&a, NULL) == -EINVAL;
	a = good;
	a.first.list_settled = 1;	/* nothing would be written */
	ok = ok && decode_experts_row(&a, NULL) == -EINVAL;
	a = good;
	a.first.format = MATMUL_FP8;	/* not down's */
	ok = ok && decode_experts_row(&a, NULL) == -EINVAL;
	a = good;
	a.first.n_rows = 2;
	ok = ok && decode_experts_row(&a, NULL) == -EINVAL;
	a = good;
	a.first.k = a.first.ldx = 2056;	/* nine slices */
	ok = ok && decode_experts_row(&a, NULL) == -EINVAL;
	a = good;
	a.sum.experts.n = a.sum.experts.ldy = last.n = last.ldy = 16384;	/* more tiles than multiprocessors */
	ok = ok && decode_experts_row(&a, NULL) == -EINVAL;

	/* The shared expert's gate and up are nobody else's. */
	layer one({ MATMUL_NVFP4, MATMUL_NVFP4, true, false, 20, 4, 256, 256, 64, 64 }, 1);
	const struct route_args listed = one.route(0);

	a = one.args(0, &listed, &last);
	ok = ok && experts_row_fits(&a);
	a.first.without_last = 0;
	ok = ok && decode_experts_row(&a, NULL) == -EINVAL;
	claim("what_does_not_fit_is_refused", ok);
}

int main(int argc, char **argv)
{
	few = asked(argc, argv, "--few");
	if (!have_gpu())
		return 77;
	{
		layer l({ MATMUL_NVFP4, MATMUL_FP8, true, true, 20, 4, 256, 256, 64, 64 }, 1);
		const struct route_args r = l.route(0);
		struct decode_matmul_args last;
		const struct experts_row_args a = l.args(0, &r, &last);

		if (!experts_row_fits(&a)) {
			printf("not on this GPU\n");
			return 77;
		}
	}
	if (asked(argc, argv, "--bench")) {
		bench();
		return 0;
	}
	bits();
	follows();
	chains();
	refusals();
	return n_failed ? 1 : 0;
}
