/* experts_row_emu_test.cc - the experts of one row in one kernel, on blocks that are fibers (block.h), all at once:
 * outputs as ref_matmul.h would have them, the same whatever order warps come in and copies land in; nobody waits for
 * ever.  Bits are experts_row_test's, on a GPU. */
#include "tests/emu/block.h"

#include "kernels/cuda/decode_args.cu"
#include "kernels/cuda/decode_row.cu"
#include "kernels/cuda/expert_list.cu"

#include "tests/emu/memory.h"
#include "tests/emu/stacked.h"

#include <deque>

/* ---- a layer -------------------------------------------------------------------------------- */

struct shape {
	enum matmul_format f, last;
	bool shared, has_last;	/* a shared expert; its last matrix is its own */
	uint32_t experts, top, n, k, inter, last_k;
};

struct layer {
	const struct shape c;
	const uint32_t slots;
	stacked up, down, last;
	array<uint16_t> x, act, last_x;
	array<float> logits, y;
	array<uint32_t> room, choice;

	explicit layer(const struct shape &s)
		: c(s), slots(s.top + s.shared), up(s.f, s.experts + 1, 2 * s.inter, s.k),
		  down(s.f, s.experts + 1, s.n, s.inter), last(s.last, 1, s.n, s.last_k), x(s.k),
		  act((size_t)slots * s.inter), last_x(s.last_k), logits(s.experts + 1), y(s.n),
		  room((size_t)s.top * s.inter / 2),
		  choice(32 + (expert_list_bytes(1, 16, s.experts + 1) + 15) / 16 * 4)
	{
		for (array<uint16_t> *v : { &x, &act, &last_x }) {
			for (uint16_t &b : v->h)
				b = bf16_bits(((int)below(2001) - 1000) / 4000.0f);
			v->up();
		}
		for (float &v : logits.h)
			v = ((int)below(20001) - 10000) / 4000.0f;
		logits.up();
	}
	struct route_args route(void)
	{
		struct route_args a = {};

		a.logits = logits.d;
		a.rows = 1;
		a.experts = c.experts;
		a.stride = c.experts + 1;
		a.top = c.top;
		a.shared = c.shared;
		a.list_shared = c.shared && !c.has_last;
		a.ids = choice.d;
		a.weights = (float *)(choice.d + 16);
		a.list = expert_list_at(choice.d + 32, 1, slots, c.experts + 1);
		return a;
	}
	struct experts_row_args args(const struct route_args *route, struct decode_matmul_args *l)
	{
		struct experts_row_args a = {};
		struct decode_experts_args &e = a.first, &d = a.sum.experts;

		e.w = up.packed.d;
		e.row_scale = c.f == MATMUL_BF16 ? NULL : up.scale.d;
		e.format = c.f;
		e.x = x.d;
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
		d.w = down.packed.d;
		d.row_scale = down.scale.d;
		d.x = act.d;
		d.y = y.d;
		d.n = d.ldy = c.n;
		d.k = d.ldx = c.inter;
		d.x_per_slot = 1;
		d.without_last = 0;
		d.out = MATMUL_OUT_F32;
		*l = {};
		l->w = last.packed.d;
		l->row_scale = c.last == MATMUL_BF16 ? NULL : last.scale.d;
		l->x = last_x.d;
		l->y = y.d;
		l->n_rows = 1;
		l->n = l->ldy = c.n;
		l->k = l->ldx = c.last_k;
		l->format = c.last;
		a.sum.last = c.has_last ? l : NULL;
		a.sum.ids = route->ids;
		a.sum.weights = route->weights;
		a.room = room.d;
		return a;
	}
	/* Leaves outputs in y.h; next: NULL, or what follows instead. */
	int run(int x_settled, const struct experts_row_next *next = NULL)
	{
		const struct route_args r = route();
		struct decode_matmul_args l;
		struct experts_row_args a = args(&r, &l);

		a.x_settled = x_settled;
		a.next = next;
		memset(room.d, 0, room.h.size() * 4);
		memset(y.d, 0xee, y.h.size() * 4);

		const int rc = decode_experts_row(&a, NULL);

		y.down();
		return rc;
	}
	std::vector<uint32_t> chosen(void)
	{
		std::vector<uint32_t> id;

		for (uint32_t i = 0; i < c.experts; i++)
			id.push_back(i);
		std::stable_sort(id.begin(), id.end(), [&](uint32_t a, uint32_t b) { return logits.h[a] > logits.h[b]; });
		id.resize(c.top);
		return id;
	}
	/* What an expert's gate and up leave. */
	std::vector<uint16_t> act_of(uint32_t expert)
	{
		std::vector<uint16_t> ret;
		double size;

		for (uint32_t i = 0; i < c.inter; i++) {
			const uint32_t row = i / 8 * 16 + i % 8;
			const double gate = dot(up.one[expert], row, x.h.data(), &size);
			const double lift = dot(up.one[expert], row + 8, x.h.data(), &size);

			ret.push_back(bf16_bits((float)(gate / (1 + exp(-gate)) * lift)));
		}
		return ret;
	}
	/* y.h against a plain sum over slots. */
	bool right(void)
	{
		const std::vector<uint32_t> id = chosen();
		std::vector<std::vector<uint16_t>> in;
		std::vector<double> weight;
		double all = 0;
		bool ok = true;

		for (uint32_t i : id) {
			in.push_back(act_of(i));
			weight.push_back(exp(logits.h[i] - logits.h[id[0]]));
			all += weight.back();
		}
		for (double &w : weight)
			w /= all;
		for (uint32_t row = 0; row < c.n; row++) {
			double sum = 0, most = 0, size;

			for (uint32_t s = 0; s < c.top; s++) {
				sum += weight[s] * dot(down.one[id[s]], row, in[s].data(), &size);
				most += weight[s] * size;
			}
			if (c.shared) {
				const double w = 1 / (1 + exp(-logits.h[c.experts]));

				sum += w * (c.has_last ? dot(last.one[0], row, last_x.h.data(), &size) :
							 dot(down.one[c.experts], row, &act.h[c.top * c.inter], &size));
				most += w * size;
			}
			/* An act that is rounded the other way: half a unit of bfloat16's last place. */
			if (!(fabs(y.h[row] - sum) <= most / 200 + 1e-30)) {
				printf("  output %u: %g, not %g\n", row, y.h[row], sum);
				ok = false;
			}
		}
		return ok;
	}
};

/* Right in turns, and the same bits in `orders` other orders. */
static bool any_order(const struct shape &c, uint32_t orders)
{
	layer l(c);
	bool ok = true;

	emu::seed(0);
	ok = l.run(0) == 0 && l.right();

	const std::vector<float> y = l.y.h;

	for (uint32_t s = 1; ok && s <= orders; s++) {
		emu::seed(s * 77777);
		ok = l.run(s % 2) == 0 && !memcmp(y.data(), l.y.h.data(), y.size() * 4) && l.y.guarded() &&
		     l.room.guarded() && l.choice.guarded();
	}
	emu::seed(0);
	return ok;
}

static void shapes(void)
{
	/* experts, top, n, k, inter, last_k */
	static const uint32_t size[][6] = {
		{ 12, 8, 64, 272, 32, 16 }, { 5, 3, 136, 528, 272, 272 }, { 33, 1, 16, 16, 16, 512 }, { 256, 8, 40, 16, 16, 16 },
	};

	for (enum matmul_format f : { MATMUL_FP8, MATMUL_NVFP4 })
		for (enum matmul_format last : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 }) {
			bool ok = true;
			char name[80];

			for (const auto &s : size)
				for (int shared = 0; shared < 2; shared++) {
					const bool has = shared && last != f;
					const struct shape c = { f, last, shared != 0, has, s[0], s[1], s[2], s[3], s[4],
								 s[5] };

					if (!shared && last != f)
						continue;
					if (!any_order(c, 3)) {
						printf("  %u of %u, %u x %u, inter %u, %s shared\n", s[1], s[0], s[2], s[3], s[4],
						       shared ? "one" : "none");
						ok = false;
					}
				}
			snprintf(name, sizeof name, "experts_%s_last_%s_in_any_order", matmul_format_name(f),
				 matmul_format_name(last));
			claim(name, ok);
		}
}

/* ---- with what follows ---------------------------------------------------------------------- */

/* The residual row, its norm and products of it behind a layer's experts. */
struct follow {
	layer &l;
	const uint32_t width;
	std::deque<stacked> product;	/* of one matrix each */
	std::vector<std::vector<uint16_t>> u;
	array<uint16_t> row, norm, out;
	array<uint32_t> room;
	struct experts_row_next next = {};

	follow(layer &of, const std::vector<enum matmul_format> &formats, const uint32_t *n)
		: l(of), width(of.c.n), row(of.c.n), norm(of.c.n), out(n[0] + n[1]), room(of.c.n / 2)
	{
		uint16_t *to = out.d;

		for (uint16_t &v : norm.h)
			v = bf16_bits(((int)below(2001) - 1000) / 4000.0f);
		norm.up();
		next.x = row.d;
		next.norm = norm.d;
		next.eps = 1e-6f;
		next.room = room.d;
		for (enum matmul_format f : formats) {
			struct decode_matmul_args &a = next.product[next.n_products];

			product.emplace_back(f, 1, n[next.n_products], width);
			a.w = product.back().packed.d;
			a.row_scale = f == MATMUL_BF16 ? NULL : product.back().scale.d;
			a.x = row.d;	/* not looked at */
			a.y = to;
			a.n_rows = 1;
			a.n = a.ldy = n[next.n_products++];
			a.k = a.ldx = width;
			a.format = f;
			a.out = MATMUL_OUT_BF16;
			to += a.n;
		}
	}
	int run(int x_settled)
	{
		for (uint32_t i = 0; i < width; i++)
			row.h[i] = bf16_bits((float)(i * 37 % 101) / 50 - 1);
		row.up();
		memset(room.d, 0, room.h.size() * 4);
		memset(out.d, 0xee, out.h.size() * 2);

		const int rc = l.run(x_settled, &next);

		row.down();
		out.down();
		return rc;
	}
	/* row.h and out.h, of the sums that the experts alone leave in l.y.h. */
	bool right(const std::vector<float> &y)
	{
		std::vector<uint16_t> h;
		double squares = 0;
		size_t at = 0;
		bool ok = true;

		for (uint32_t i = 0; i < width; i++) {
			ok = ok && row.h[i] == bf16_bits(ref_bf16(bf16_bits((float)(i * 37 % 101) / 50 - 1)) + y[i]);
			squares += (double)ref_bf16(row.h[i]) * ref_bf16(row.h[i]);
		}
		for (uint32_t i = 0; i < width; i++)
			h.push_back(bf16_bits((float)(ref_bf16(row.h[i]) / sqrt(squares / width + 1e-6) *
						      (1.0 + ref_bf16(norm.h[i])))));
		for (const stacked &p : product)
			for (uint32_t i = 0; i < p.one[0].ref.n; i++, at++) {
				double size, want = dot(p.one[0], i, h.data(), &size);

				if (!(fabs(ref_bf16(out.h[at]) - want) <= size / 200 + fabs(want) / 200 + 1e-30)) {
					printf("  output %zu: %g, not %g\n", at, ref_bf16(out.h[at]), want);
					ok = false;
				}
			}
		return ok;
	}
};

static bool follows_in_any_order(const struct shape &c, const std::vector<enum matmul_format> &f, const uint32_t *n,
				 uint32_t orders)
{
	layer l(c);
	follow t(l, f, n);
	bool ok;

	emu::seed(0);
	emu_sms = (int)(c.n + 15) / 16 + 2;
	ok = l.run(0) == 0;

	const std::vector<float> y = l.y.h;

	ok = ok && t.run(1) == 0 && t.right(y);

	const std::vector<uint16_t> out = t.out.h, row = t.row.h;

	for (uint32_t s = 1; ok && s <= orders; s++) {
		emu::seed(s * 77777);
		ok = t.run(s % 2) == 0 && out == t.out.h && row == t.row.h && t.out.guarded() && t.row.guarded() &&
		     t.room.guarded() && l.room.guarded() && l.choice.guarded();
	}
	emu::seed(0);
	emu_sms = 132;
	return ok;
}

static void follows(void)
{
	/* experts, top, n, k, inter, last_k; outputs of the products: a run of many stages, places used again, blocks
	 * without tiles, tiles without all rows */
	static const uint32_t size[][8] = {
		{ 12, 8, 64, 272, 32, 16, 800, 33 }, { 5, 3, 272, 528, 272, 272, 4000, 64 }, { 33, 1, 16, 16, 16, 512, 250, 1 },
		{ 9, 8, 528, 16, 16, 16, 2640, 90 },
	};
	static const struct { const char *name; std::vector<enum matmul_format> f; } kind[] = {
		{ "FP8", { MATMUL_FP8 } }, { "BF16", { MATMUL_BF16 } }, { "FP8_and_BF16", { MATMUL_FP8, MATMUL_BF16 } },
		{ "BF16_and_BF16", { MATMUL_BF16, MATMUL_BF16 } },
	};

	for (const auto &k : kind) {
		bool ok = true;
		char name[80];

		for (enum matmul_format f : { MATMUL_FP8, MATMUL_NVFP4 })
			for (const auto &s : size) {
				const struct shape c = { f, MATMUL_FP8, true, f != MATMUL_FP8, s[0], s[1], s[2], s[3], s[4], s[5] };

				/* The largest takes its time: in turns, behind one format. */
				if (s[2] > 300 && f == MATMUL_FP8)
					continue;
				if (follows_in_any_order(c, k.f, s + 6, s[2] > 300 ? 0 : s[2] > 100 ? 1 : 3))
					continue;
				printf("  %s: %u of %u, %u x %u, inter %u, outputs %u, %u\n", matmul_format_name(f), s[1], s[0], s[2],
				       s[3], s[4], s[6], s[7]);
				ok = false;
			}
		snprintf(name, sizeof name, "then_%s_in_any_order", k.name);
		claim(name, ok);
	}
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	emu_at_once = true;
	shapes();
	follows();
	return n_failed != 0;
}
