/* attn_prefill_test.cu - prefill attention: norm, rotation and the cache it fills against double; softmax
 * against double over odd runs, shuffled blocks and poisoned neighbours; prompts cut differently give the
 * same bits; an FP8 cache holds the codes of what a BF16 cache holds, and gives what a BF16 cache of its numbers
 * gives.  Exits 77 without a GPU; --few for the sanitizers, --bench for times. */
#include "kernels/cuda/attn_prefill.h"
#include "tests/gpu/gpu_test.h"
#include "tests/gpu/kv_reference.h"

#include <cerrno>

static const uint32_t DIM = ATTN_DIM, PAGE = ATTN_PAGE, ROTARY = 64, HALF = 32, POSITIONS = 40000;
static const uint32_t SECTION_H = 11, SECTION_W = 10;
static const float EPS = 1e-6f;
static bool few;

static float f(__nv_bfloat16 x)
{
	return __bfloat162float(x);
}

/* Random values fast: a table read from changing places. */
static void fill(__nv_bfloat16 *to, size_t n, float scale)
{
	static std::vector<__nv_bfloat16> noise;

	while (noise.size() < 1 << 16)
		noise.push_back(__float2bfloat16_rn(uniform()));
	for (size_t i = 0; i < n;) {
		size_t at = rng() % noise.size();

		for (size_t end = std::min(n, i + 997); i < end; i++, at++)
			to[i] = __float2bfloat16_rn(scale * f(noise[at & (noise.size() - 1)]));
	}
}

/* What every problem shares: norms and the table of rotations. */
struct constants {
	array<__nv_bfloat16> q_norm, k_norm, cos, sin;

	constants() : q_norm(DIM), k_norm(DIM), cos(POSITIONS * HALF), sin(POSITIONS * HALF)
	{
		q_norm.fill_bf16();
		k_norm.fill_bf16();
		for (uint32_t p = 0; p < POSITIONS; p++)
			for (uint32_t j = 0; j < HALF; j++) {
				double angle = p * std::pow(1e7, -2.0 * j / ROTARY);

				cos.h[p * HALF + j] = __float2bfloat16_rn((float)std::cos(angle));
				sin.h[p * HALF + j] = __float2bfloat16_rn((float)std::sin(angle));
			}
		cos.up();
		sin.up();
	}
};

struct shape {
	uint32_t qh, kvh;
	uint32_t ld() const { return (2 * qh + 2 * kvh) * DIM; }
	uint32_t k_at() const { return 2 * qh * DIM; }
	uint32_t v_at() const { return (2 * qh + kvh) * DIM; }
};

struct span {
	uint32_t pos, n;
};

/* A step of several runs: places in a shuffled pool with spare blocks, everything not owned is NaN. */
struct step {
	shape sh;
	uint32_t n_rows = 0, n_blocks = 0;
	std::vector<attn_run> runs;
	std::vector<uint32_t> entries;
	array<attn_tile> *tiles;
	array<qk_row> *rows;
	array<uint32_t> *blocks;
	array<__nv_bfloat16> *u, *k, *v, *out;
	array<uint8_t> *kc, *vc;	/* in FP8 */
	array<float> *scratch;

	step(shape s, const std::vector<span> &spans, uint32_t slots = 0) : sh(s)
	{
		const uint32_t spare = 3;
		uint32_t longest = 0;

		for (const span &x : spans) {
			runs.push_back({ n_rows, x.pos, x.n, n_blocks });
			n_rows += x.n;
			n_blocks += (x.pos + x.n + PAGE - 1) / PAGE;
			longest = std::max(longest, x.pos + x.n);
		}
		slots = std::max(slots, attn_prefill_segments(longest));
		for (uint32_t i = 0; i < n_blocks + spare; i++)
			entries.push_back(i);
		for (uint32_t i = n_blocks + spare - 1; i > 0; i--)
			std::swap(entries[i], entries[rng() % (i + 1)]);
		blocks = new array<uint32_t>(n_blocks);
		std::copy(entries.begin(), entries.begin() + n_blocks, blocks->h.begin());
		blocks->up();
		n_blocks += spare;
		std::vector<attn_tile> cut(attn_prefill_max_tiles(n_rows, (uint32_t)runs.size(), longest));
		tiles = new array<attn_tile>(attn_prefill_tiles(runs.data(), (uint32_t)runs.size(), slots, cut.data()));
		std::copy(cut.begin(), cut.begin() + (long)tiles->h.size(), tiles->h.begin());
		tiles->up();
		rows = new array<qk_row>(n_rows);
		for (const attn_run &r : runs)
			for (uint32_t i = 0; i < r.n; i++) {
				const uint32_t p = r.pos + i;

				rows->h[r.row + i] = { { p, p / 3, p / 2 + 7 }, entries[r.table + p / PAGE], p % PAGE };
			}
		rows->up();
		u = new array<__nv_bfloat16>((size_t)n_rows * sh.ld());
		k = new array<__nv_bfloat16>((size_t)n_blocks * sh.kvh * PAGE * DIM);
		v = new array<__nv_bfloat16>(k->h.size());
		out = new array<__nv_bfloat16>((size_t)n_rows * sh.qh * DIM);
		scratch = new array<float>(attn_prefill_slot_floats(slots, sh.qh, sh.kvh));
		CUDA(cudaMemset(scratch->d, 0xff, scratch->h.size() * 4));
		std::fill(k->h.begin(), k->h.end(), __float2bfloat16_rn(NAN));
		v->h = k->h;
		kc = new array<uint8_t>(k->h.size() / KV_CODES * KV_HEAD);
		vc = new array<uint8_t>(kc->h.size());
		std::fill(kc->h.begin(), kc->h.end(), 0xff);	/* NaN, powers infinite */
		vc->h = kc->h;
		std::fill(out->h.begin(), out->h.end(), __float2bfloat16_rn(NAN));
		out->up();
	}
	step(const step &) = delete;
	~step() { delete tiles; delete rows; delete blocks; delete u; delete k; delete v; delete kc; delete vc; delete out; delete scratch; }
	size_t at(const attn_run &r, uint32_t key, uint32_t head) const
	{
		return (((size_t)entries[r.table + key / PAGE] * sh.kvh + head) * PAGE + key % PAGE) * DIM;
	}
	/* The head of `place` (at()) in FP8. */
	static size_t head_of(size_t place) { return place / KV_CODES * KV_HEAD; }
	static uint32_t offset_of(size_t place) { return (uint32_t)(place / DIM % PAGE); }
	void up(void) { u->up(); k->up(); v->up(); kc->up(); vc->up(); }
	bool guarded(void) const
	{
		return u->guarded() && k->guarded() && v->guarded() && kc->guarded() && vc->guarded() && out->guarded() &&
		       scratch->guarded();
	}
	attn_prefill_in_args in_args(const constants &c, enum kv_format kv = KV_BF16) const
	{
		return { tiles->d, rows->d, (uint32_t)tiles->h.size(), n_rows, sh.qh, sh.kvh, sh.ld(), u->d,
			 u->d + sh.k_at(), u->d + sh.v_at(), c.q_norm.d, c.k_norm.d, c.cos.d, c.sin.d, ROTARY, SECTION_H,
			 SECTION_W, EPS, kv == KV_FP8 ? (void *)kc->d : k->d, kv == KV_FP8 ? (void *)vc->d : v->d, kv };
	}
	attn_prefill_args args(attn_prefill_form form, enum kv_format kv = KV_BF16) const
	{
		return { tiles->d, tiles->h.data(), (uint32_t)tiles->h.size(), sh.qh, sh.kvh, sh.ld(), u->d, blocks->d, n_blocks,
			 kv == KV_FP8 ? (void *)kc->d : k->d, kv == KV_FP8 ? (void *)vc->d : v->d, scratch->d, out->d, form,
			 kv };
	}
};

/* ---- norm, rotation, cache ----------------------------------------------------- */

static bool head_close(const constants &c, const __nv_bfloat16 *x, const std::vector<__nv_bfloat16> &w, const qk_row &row,
		       const __nv_bfloat16 *got)
{
	double n[DIM], sum = 0;

	for (uint32_t d = 0; d < DIM; d++)
		sum += (double)f(x[d]) * f(x[d]);
	for (uint32_t d = 0; d < DIM; d++)
		n[d] = f(x[d]) / std::sqrt(sum / DIM + EPS) * (1.0 + f(w[d]));
	for (uint32_t d = 0; d < DIM; d++) {
		double want = n[d], size = std::fabs(n[d]);

		if (d < ROTARY) {
			uint32_t j = d % HALF, axis = j % 3 == 1 && j < 3 * SECTION_H ? 1 : j % 3 == 2 && j < 3 * SECTION_W ? 2 : 0;
			double co = f(c.cos.h[row.position[axis] * HALF + j]), si = f(c.sin.h[row.position[axis] * HALF + j]);
			double other = n[d < HALF ? d + HALF : d - HALF];

			want = n[d] * co + (d < HALF ? -other : other) * si;
			size += std::fabs(other);
		}
		if (!(std::fabs(want - f(got[d])) <= std::fabs(want) / 256 + size * 1e-6))
			return false;
	}
	return true;
}

static void projections(const constants &c, shape sh)
{
	step s(sh, { { 0, 129 }, { 192, 64 }, { 64, 1 }, { 0, 63 } });
	attn_prefill_in_args a = s.in_args(c);
	const uint32_t group = sh.qh;
	bool ok, copied = true, tail = true, rest = true;

	fill(s.u->h.data(), s.u->h.size(), 2);
	s.up();
	const std::vector<__nv_bfloat16> u = s.u->h, nothing = s.k->h;
	std::vector<bool> owned(s.k->h.size() / DIM);
	ok = attn_prefill_in(&a, nullptr) == 0;
	CUDA(cudaDeviceSynchronize());
	s.u->down();
	s.k->down();
	s.v->down();
	for (const attn_run &r : s.runs) {
		for (uint32_t i = 0; i < r.n; i++) {
			const size_t first = (size_t)(r.row + i) * sh.ld();

			for (uint32_t h = 0; h < group; h++) {
				const size_t x = first + h * 2 * DIM;

				ok = ok && head_close(c, &u[x], c.q_norm.h, s.rows->h[r.row + i], &s.u->h[x]);
				copied = copied && !memcmp(&u[x + DIM], &s.u->h[x + DIM], DIM * 2);
			}
			copied = copied && !memcmp(&u[first + sh.k_at()], &s.u->h[first + sh.k_at()], 2 * sh.kvh * DIM * 2);
			for (uint32_t h = 0; h < sh.kvh; h++) {
				const size_t to = s.at(r, r.pos + i, h);

				owned[to / DIM] = true;
				ok = ok && head_close(c, &u[first + sh.k_at() + h * DIM], c.k_norm.h, s.rows->h[r.row + i], &s.k->h[to]);
				copied = copied && !memcmp(&u[first + sh.v_at() + h * DIM], &s.v->h[to], DIM * 2);
			}
		}
		for (uint32_t p = r.pos + r.n; p % PAGE; p++)
			for (uint32_t h = 0; h < sh.kvh; h++) {
				const size_t to = s.at(r, p, h);

				owned[to / DIM] = true;
				for (uint32_t d = 0; d < DIM; d++)
					tail = tail && f(s.k->h[to + d]) == 0 && f(s.v->h[to + d]) == 0;
			}
	}
	for (size_t i = 0; i < owned.size(); i++)
		if (!owned[i])
			rest = rest && !memcmp(&s.k->h[i * DIM], &nothing[i * DIM], DIM * 2) &&
			       !memcmp(&s.v->h[i * DIM], &nothing[i * DIM], DIM * 2);
	printf("  heads %u/%u\n", sh.qh, sh.kvh);
	claim("heads_are_normed_rotated_and_cached", ok && s.guarded());
	claim("gates_and_values_are_as_projected", copied);
	claim("the_rest_of_a_last_block_is_zero", tail);
	claim("no_other_place_is_touched", rest);
}

/* The same projections into both caches: the codes are those of what the other one holds, and nothing else changes. */
static void projections_fp8(const constants &c, shape sh)
{
	step s(sh, { { 0, 129 }, { 192, 64 }, { 64, 1 }, { 0, 63 } });
	attn_prefill_in_args wide = s.in_args(c), narrow = s.in_args(c, KV_FP8);
	std::vector<__nv_bfloat16> u, turned;
	std::vector<uint8_t> k, v;
	bool ok;

	fill(s.u->h.data(), s.u->h.size(), 2);
	for (uint32_t r = 0; r < s.n_rows; r++)		/* values of all sizes, and zeros */
		for (uint32_t d = 0; d < sh.kvh * DIM; d++) {
			__nv_bfloat16 &x = s.u->h[(size_t)r * sh.ld() + sh.v_at() + d];

			x = __float2bfloat16_rn(r % 50 == 7 ? -0.0f : std::ldexp(f(x), (int)(r * 7 + d / DIM * 3) % 245 - 125));
		}
	s.u->h[(size_t)30 * sh.ld() + sh.v_at() + 200] = __float2bfloat16_rn(NAN);
	s.u->h[(size_t)31 * sh.ld() + sh.v_at() + 3] = __float2bfloat16_rn(-INFINITY);
	s.u->h[(size_t)32 * sh.ld() + sh.k_at() + 99] = __float2bfloat16_rn(INFINITY);
	s.up();
	u = s.u->h;
	k = s.kc->h;
	v = s.vc->h;
	ok = attn_prefill_in(&wide, nullptr) == 0;
	CUDA(cudaDeviceSynchronize());
	s.u->down();
	s.k->down();
	s.v->down();
	turned = s.u->h;
	s.u->h = u;
	s.u->up();
	ok = ok && attn_prefill_in(&narrow, nullptr) == 0;
	CUDA(cudaDeviceSynchronize());
	s.u->down();
	s.kc->down();
	s.vc->down();
	for (const attn_run &r : s.runs)
		for (uint32_t p = r.pos; p < (r.pos + r.n + PAGE - 1) / PAGE * PAGE; p++)
			for (uint32_t h = 0; h < sh.kvh; h++) {
				const size_t from = s.at(r, p, h);

				kv_put(&k[step::head_of(from)], step::offset_of(from), &s.k->h[from]);
				kv_put(&v[step::head_of(from)], step::offset_of(from), &s.v->h[from]);
			}
	claim("fp8_codes_are_those_of_the_bf16_cache", ok && s.guarded() && k == s.kc->h && v == s.vc->h);
	claim("fp8_queries_are_those_of_bf16", !memcmp(turned.data(), s.u->h.data(), u.size() * 2));
}

/* ---- attention against double ---------------------------------------------------- */

static void reference(const step &s, const attn_run &r, uint32_t i, uint32_t head, std::vector<double> &o)
{
	const uint32_t length = r.pos + i + 1, kv = head / (s.sh.qh / s.sh.kvh);
	const __nv_bfloat16 *q = &s.u->h[(size_t)(r.row + i) * s.sh.ld() + head * 2 * DIM], *g = q + DIM;
	std::vector<double> x(length);
	double top = -1e300, sum = 0;

	for (uint32_t key = 0; key < length; key++) {
		const __nv_bfloat16 *k = &s.k->h[s.at(r, key, kv)];

		for (uint32_t d = 0; d < DIM; d++)
			x[key] += (double)f(q[d]) * f(k[d]);
		x[key] /= 16;
		top = std::max(top, x[key]);
	}
	o.assign(DIM, 0);
	for (uint32_t key = 0; key < length; key++) {
		const __nv_bfloat16 *v = &s.v->h[s.at(r, key, kv)];
		const double p = std::exp(x[key] - top);

		sum += p;
		for (uint32_t d = 0; d < DIM; d++)
			o[d] += p * f(v[d]);
	}
	for (uint32_t d = 0; d < DIM; d++)
		o[d] = o[d] / sum / (1 + std::exp(-(double)f(g[d])));
}

/* Keys in the cache are random; behind a run's end they are what attn_prefill_in() leaves there. */
static void fill_cache(step &s)
{
	for (const attn_run &r : s.runs)
		for (uint32_t p = 0; p < (r.pos + r.n + PAGE - 1) / PAGE * PAGE; p++)
			for (uint32_t h = 0; h < s.sh.kvh; h++) {
				fill(&s.k->h[s.at(r, p, h)], DIM, p < r.pos + r.n);
				fill(&s.v->h[s.at(r, p, h)], DIM, p < r.pos + r.n);
			}
}

static void against_reference(shape sh, attn_prefill_form form, const std::vector<span> &spans, float spread)
{
	step s(sh, spans);
	attn_prefill_args a = s.args(form);
	double worst = 0;
	char name[128];
	bool ok;

	fill(s.u->h.data(), s.u->h.size(), spread);
	fill_cache(s);
	s.up();
	ok = attn_prefill(&a, nullptr) == 0;
	CUDA(cudaDeviceSynchronize());
	s.out->down();
	for (const attn_run &r : s.runs)
		/* of long runs some rows, and the last 70; of changing heads */
		for (uint32_t i = 0; i < r.n; i += r.pos + r.n < 400 ? 1 : r.pos + r.n < 8000 && i + 70 > r.n ? 1 : 23)
			for (uint32_t h = i % 3; h < sh.qh; h += r.pos + r.n < 400 ? 3 : 7) {
				std::vector<double> ref;
				std::vector<float> got(DIM);

				reference(s, r, i, h, ref);
				for (uint32_t d = 0; d < DIM; d++)
					got[d] = f(s.out->h[((size_t)(r.row + i) * sh.qh + h) * DIM + d]);
				worst = std::max(worst, relative_error(ref, got.data()));
			}
	/* probabilities and the result are bf16: 2^-9 each, averaged over keys and dims */
	printf("  form %d heads %u/%u spread %.0f, %zu runs: worst relative error %.2e\n", form, sh.qh, sh.kvh, spread,
	       spans.size(), worst);
	snprintf(name, sizeof(name), "form_%d_heads_%u_%u_follow_softmax", form, sh.qh, sh.kvh);
	claim(name, ok && s.guarded() && worst < 5e-3);
}

/* Out of an FP8 cache comes what comes out of a BF16 cache of its numbers. */
static void fp8_is_bf16(shape sh, attn_prefill_form form, const std::vector<span> &spans, bool broken)
{
	step s(sh, spans);
	attn_prefill_args wide = s.args(form), narrow = s.args(form, KV_FP8);
	std::vector<__nv_bfloat16> want;
	std::vector<uint8_t> k, v;
	size_t odd = 0;
	char name[128];
	bool ok;

	fill(s.u->h.data(), s.u->h.size(), 3);
	fill_cache(s);
	kv_spread(s.k->h, 4);
	kv_spread(s.v->h, 100);
	if (broken) {
		s.k->h[s.at(s.runs[0], 0, 0) + 77] = __float2bfloat16_rn(INFINITY);
		s.v->h[s.at(s.runs[0], 0, sh.kvh - 1) + 255] = __float2bfloat16_rn(NAN);
	}
	kv_narrow(s.k->h, k);
	kv_narrow(s.v->h, v);
	s.kc->h = k;
	s.vc->h = v;
	s.up();
	ok = attn_prefill(&wide, nullptr) == 0;
	CUDA(cudaDeviceSynchronize());
	s.out->down();
	want = s.out->h;
	CUDA(cudaMemset(s.out->d, 0xff, want.size() * 2));
	CUDA(cudaMemset(s.scratch->d, 0xff, s.scratch->h.size() * 4));
	ok = ok && attn_prefill(&narrow, nullptr) == 0;
	CUDA(cudaDeviceSynchronize());
	s.out->down();
	for (const __nv_bfloat16 &x : want)
		odd += !std::isfinite(f(x));
	printf("  form %d heads %u/%u, %zu runs: %zu of %zu results are no numbers\n", form, sh.qh, sh.kvh, spans.size(), odd,
	       want.size());
	snprintf(name, sizeof(name), "form_%d_heads_%u_%u_fp8_is_bf16_of_its_numbers%s", form, sh.qh, sh.kvh,
		 broken ? "_and_nan_stays" : "");
	claim(name, ok && s.guarded() && broken == (odd > 0) && !memcmp(want.data(), s.out->h.data(), want.size() * 2));
}

/* ---- cuts ------------------------------------------------------------------------- */

/* What a prompt leaves behind: outputs, and the cache in order of positions. */
struct trace {
	std::vector<__nv_bfloat16> out;
	std::vector<uint8_t> k, v;

	bool operator==(const trace &o) const
	{
		return out.size() == o.out.size() && !memcmp(out.data(), o.out.data(), out.size() * 2) && k == o.k && v == o.v;
	}
};

/* One head's entry of a position: 256 numbers, or codes and their power. */
struct entry {
	enum kv_format kv;
	size_t bytes() const { return kv == KV_FP8 ? DIM + 1 : DIM * 2; }
	void read(const array<__nv_bfloat16> &wide, const array<uint8_t> &narrow, size_t at, std::vector<uint8_t> *to) const
	{
		const uint8_t *codes = &narrow.h[step::head_of(at)], *row = codes + (size_t)step::offset_of(at) * DIM;

		if (kv == KV_FP8) {
			to->insert(to->end(), row, row + DIM);
			to->push_back(codes[KV_CODES + step::offset_of(at)]);
		} else {
			to->insert(to->end(), (const uint8_t *)&wide.h[at], (const uint8_t *)&wide.h[at] + DIM * 2);
		}
	}
	/* from: NULL: what no number is */
	void write(array<__nv_bfloat16> *wide, array<uint8_t> *narrow, size_t at, const uint8_t *from) const
	{
		uint8_t *codes = &narrow->h[step::head_of(at)];

		if (kv == KV_FP8) {
			for (uint32_t d = 0; d < DIM; d++)
				codes[(size_t)step::offset_of(at) * DIM + d] = from ? from[d] : 0xff;
			codes[KV_CODES + step::offset_of(at)] = from ? from[DIM] : 0xff;
		} else if (from) {
			memcpy((void *)&wide->h[at], from, DIM * 2);
		} else {
			std::fill(&wide->h[at], &wide->h[at] + DIM, __float2bfloat16_rn(NAN));
		}
	}
};

/* The prompt in steps that end at `cuts`; in each, after `before` rows of another run and before 65 of a third. */
static bool prefill(const constants &c, shape sh, attn_prefill_form form, enum kv_format kv,
		    const std::vector<__nv_bfloat16> &u, const std::vector<uint32_t> &cuts, uint32_t before, uint32_t slots,
		    trace *t)
{
	const struct entry e = { kv };
	const size_t ld = sh.ld();
	uint32_t from = 0;

	t->out.clear();
	t->k.clear();
	t->v.clear();
	for (uint32_t to : cuts) {
		std::vector<span> spans = { { from, to - from } };

		if (before)
			spans = { { 128, before }, spans[0], { 0, 65 } };
		step s(sh, spans, slots);
		const attn_run &r = s.runs[before ? 1 : 0];
		attn_prefill_in_args in = s.in_args(c, kv);
		attn_prefill_args a = s.args(form, kv);

		fill(s.u->h.data(), s.u->h.size(), 2);
		std::copy(u.begin() + (long)(from * ld), u.begin() + (long)(to * ld), s.u->h.begin() + (long)(r.row * ld));
		fill_cache(s);
		if (kv == KV_FP8) {
			kv_narrow(s.k->h, s.kc->h);
			kv_narrow(s.v->h, s.vc->h);
		}
		for (uint32_t p = 0; p < (r.pos + r.n + PAGE - 1) / PAGE * PAGE; p++)
			for (uint32_t h = 0; h < sh.kvh; h++) {
				const size_t i = ((size_t)p * sh.kvh + h) * e.bytes();

				e.write(s.k, s.kc, s.at(r, p, h), p < from ? &t->k[i] : nullptr);
				e.write(s.v, s.vc, s.at(r, p, h), p < from ? &t->v[i] : nullptr);
			}
		s.up();
		if (attn_prefill_in(&in, nullptr) || attn_prefill(&a, nullptr))
			return false;
		CUDA(cudaDeviceSynchronize());
		s.out->down();
		s.k->down();
		s.v->down();
		s.kc->down();
		s.vc->down();
		for (uint32_t i = 0; i < r.n; i++) {
			const __nv_bfloat16 *o = &s.out->h[(size_t)(r.row + i) * sh.qh * DIM];

			t->out.insert(t->out.end(), o, o + sh.qh * DIM);
		}
		for (uint32_t i = from; i < to; i++)
			for (uint32_t h = 0; h < sh.kvh; h++) {
				e.read(*s.k, *s.kc, s.at(r, i, h), &t->k);
				e.read(*s.v, *s.vc, s.at(r, i, h), &t->v);
			}
		from = to;
	}
	return std::all_of(t->out.begin(), t->out.end(), [](__nv_bfloat16 x) { return std::isfinite(f(x)); });
}

static void cuts_change_nothing(const constants &c, shape sh, attn_prefill_form form, enum kv_format kv, uint32_t n,
				const std::vector<std::vector<uint32_t>> &all)
{
	std::vector<__nv_bfloat16> u((size_t)n * sh.ld());
	bool ok, same = true, prefix;
	trace whole, t;
	char name[128];

	fill(u.data(), u.size(), 2);
	ok = prefill(c, sh, form, kv, u, { n }, 0, 0, &whole);
	for (size_t i = 0; i < all.size(); i++) {
		ok = ok && prefill(c, sh, form, kv, u, all[i], i % 2 ? 0 : 37 + 64 * (uint32_t)i, (uint32_t)i * 5, &t);
		same = same && t == whole;
	}
	/* a shorter prompt is a prefix of the longer one */
	ok = ok && prefill(c, sh, form, kv, u, { 150 }, 5, 0, &t);
	prefix = !memcmp(t.out.data(), whole.out.data(), t.out.size() * 2);
	snprintf(name, sizeof(name), "form_%d_heads_%u_%u_%s_%u_rows_cuts_and_neighbours_change_no_bit", form, sh.qh, sh.kvh,
		 kv_format_name(kv), n);
	claim(name, ok && same && prefix);
}

/* ---- work list, refusals ------------------------------------------------------------ */

static void work_list(void)
{
	const uint32_t far = 2 * ATTN_PREFILL_SEGMENT;
	const attn_run runs[] = { { 0, 64, 130, 0 }, { 130, 0, 64, 4 }, { 194, 640, 1, 5 } };
	const attn_run long_runs[] = { { 0, far - 64, 128, 0 }, { 128, 0, 64, 900 }, { 192, far, 3, 901 } };
	const attn_run off = { 0, 65, 3, 0 };
	attn_tile t[16];
	const attn_tile want[] = { { 194, 640, 1, 5, 0, 0, 0 }, { 128, 192, 2, 0, 0, 0, 0 }, { 64, 128, 64, 0, 0, 0, 0 },
				   { 0, 64, 64, 0, 0, 0, 0 }, { 130, 0, 64, 4, 0, 0, 0 } };
	/* five slots: the third run waits for the second turn */
	const attn_tile want_long[] = { { 0, far - 64, 64, 0, 0, 0, 0 }, { 0, far - 64, 64, 0, 1, 1, 0 },
					{ 64, far, 64, 0, 0, 2, 0 }, { 64, far, 64, 0, 1, 3, 0 },
					{ 64, far, 64, 0, 2, 4, 0 }, { 128, 0, 64, 900, 0, 0, 0 },
					{ 192, far, 3, 901, 0, 0, 1 }, { 192, far, 3, 901, 1, 1, 1 },
					{ 192, far, 3, 901, 2, 2, 1 } };

	claim("work_is_listed_longest_first", attn_prefill_max_tiles(195, 3, 641) >= 5 &&
						      attn_prefill_tiles(runs, 3, 0, t) == 5 && !memcmp(t, want, sizeof(want)));
	claim("segments_take_turns", attn_prefill_max_tiles(195, 3, far + 64) >= 9 &&
					     attn_prefill_tiles(long_runs, 3, 5, t) == 9 &&
					     !memcmp(t, want_long, sizeof(want_long)));
	/* 128 tiles of two segments: as many in both turns */
	{
		const attn_run wide = { 0, ATTN_PREFILL_SEGMENT, 8192, 0 };	/* for segments of 8192 */
		std::vector<attn_tile> list(attn_prefill_max_tiles(8192, 1, ATTN_PREFILL_SEGMENT + 8192));
		const uint32_t n = attn_prefill_tiles(&wide, 1, 255, list.data());
		uint32_t in[2] = {}, top = 0;

		for (uint32_t i = 0; i < n; i++) {
			in[std::min(list[i].turn, 1u)]++;
			top = std::max(top, list[i].slot);
		}
		claim("turns_are_equal", list[n - 1].turn == 1 && in[0] == in[1] && top < 255);
	}
	claim("a_run_off_the_grid_is_refused", attn_prefill_tiles(&off, 1, 0, t) == 0);
	claim("more_segments_than_slots_are_refused", attn_prefill_tiles(long_runs, 3, 2, t) == 0);
}

static void refuses(const constants &c)
{
	step s({ 8, 1 }, { { 0, 3 } });
	attn_prefill_args a = s.args(ATTN_FORM_CHIP);
	attn_prefill_in_args in = s.in_args(c);

	s.up();
	a.q_heads = 9;
	claim("a_group_of_nine_is_refused", attn_prefill(&a, nullptr) == -EINVAL);
	a = s.args(ATTN_FORM_CHIP);
	a.n_tiles = 0;
	claim("no_rows_are_refused", attn_prefill(&a, nullptr) == -EINVAL);
	in.rotary = 40;
	claim("a_rotation_that_cuts_a_lane_is_refused", attn_prefill_in(&in, nullptr) == -EINVAL);
}

/* ---- times ----------------------------------------------------------------------------- */

static void bench(const constants &c, bool hopper)
{
	const int LAYERS = 10;
	struct {
		const char *what;
		shape sh;
		std::vector<span> spans;
		uint32_t slots = 254;	/* 64 Mi floats for 16/2 heads */
	} cases[] = {
		{ "2k", { 16, 2 }, { { 0, 2048 } } },
		{ "8k", { 16, 2 }, { { 0, 8192 } } },
		{ "32k, first 8k", { 16, 2 }, { { 0, 8192 } } },
		{ "32k, second 8k", { 16, 2 }, { { 8192, 8192 } } },
		{ "32k, third 8k", { 16, 2 }, { { 16384, 8192 } } },
		{ "32k, fourth 8k", { 16, 2 }, { { 24576, 8192 } } },
		{ "32k, fourth 8k, 512 slots", { 16, 2 }, { { 24576, 8192 } }, 512 },
		{ "16 of 512", { 16, 2 }, std::vector<span>(16, { 0, 512 }) },
		{ "256 rows", { 16, 2 }, { { 0, 256 } } },
		{ "64 rows at 8k", { 16, 2 }, { { 8128, 64 } } },
		{ "64 rows at 32k", { 16, 2 }, { { 32768, 64 } } },
		{ "512 rows at 32k", { 16, 2 }, { { 32768, 512 } } },
		{ "8k, 27B", { 24, 4 }, { { 0, 8192 } } },
	};

	printf("\n%d layers in one graph, median of 10; segments of %d keys\n", LAYERS, ATTN_PREFILL_SEGMENT);
	printf("\n| prompt | heads | KV | form | ms a layer | TFLOP/s | norm, rotation, cache ms | TB/s |\n"
	       "|---|---|---|---|--:|--:|--:|--:|\n");
	for (auto &x : cases) {
		step s(x.sh, x.spans, x.slots);
		double flop = 0;

		fill(s.u->h.data(), s.u->h.size(), 1);
		fill_cache(s);
		kv_narrow(s.k->h, s.kc->h);
		kv_narrow(s.v->h, s.vc->h);
		s.up();
		for (const span &r : x.spans)
			flop += 4.0 * DIM * x.sh.qh * ((double)r.n * r.pos + r.n * (r.n + 1.0) / 2);
		for (enum kv_format kv : { KV_BF16, KV_FP8 }) {
			const double row = DIM * 2.0 * (2 * x.sh.qh + 2 * x.sh.kvh) + 2.0 * x.sh.kvh * attn_head_bytes(kv) / PAGE;
			const double in_ms = graph_ms(10, [&](cudaStream_t stream) {
				attn_prefill_in_args a = s.in_args(c, kv);
				for (int i = 0; i < LAYERS; i++)
					attn_prefill_in(&a, stream);
			}) / LAYERS;

			for (int form = ATTN_FORM_MMA; form <= (hopper ? ATTN_FORM_WGMMA : ATTN_FORM_MMA); form++) {
				double ms = graph_ms(10, [&](cudaStream_t stream) {
					attn_prefill_args a = s.args((attn_prefill_form)form, kv);
					for (int i = 0; i < LAYERS; i++)
						attn_prefill(&a, stream);
				}) / LAYERS;
				printf("| %s | %u/%u | %s | %s | %.3f | %.0f | %.3f | %.2f |\n", x.what, x.sh.qh, x.sh.kvh,
				       kv_format_name(kv), form == ATTN_FORM_MMA ? "mma" : "wgmma", ms, flop / ms / 1e9, in_ms,
				       row * s.n_rows / in_ms / 1e9);
			}
		}
	}
}

int main(int argc, char **argv)
{
	cudaDeviceProp prop;
	bool hopper;

	if (!have_gpu())
		return 77;
	CUDA(cudaGetDeviceProperties(&prop, 0));
	hopper = prop.major == 9 && prop.minor == 0;
	few = argc > 1 && !strcmp(argv[1], "--few");
	constants c;
	work_list();
	refuses(c);
	for (shape sh : std::vector<shape>{ { 16, 2 }, { 24, 4 }, { 3, 3 } }) {
		projections(c, sh);
		projections_fp8(c, sh);
	}
	for (int i = ATTN_FORM_MMA; i <= (hopper ? ATTN_FORM_WGMMA : ATTN_FORM_MMA); i++) {
		const attn_prefill_form form = (attn_prefill_form)i;

		against_reference({ 16, 2 }, form, { { 0, 1 }, { 64, 65 }, { 0, 63 }, { 128, 17 } }, 3);
		against_reference({ 6, 1 }, form, { { 0, 200 }, { 64, 64 } }, 3);
		fp8_is_bf16({ 16, 2 }, form, { { 0, 1 }, { 64, 65 }, { 0, 63 }, { 128, 17 } }, false);
		fp8_is_bf16({ 6, 1 }, form, { { 0, 200 }, { 64, 64 } }, true);
		for (enum kv_format kv : { KV_BF16, KV_FP8 })
			cuts_change_nothing(c, { 6, 1 }, form, kv, 201, { { 201 }, { 64, 201 }, { 128, 192, 201 } });
		if (few)
			continue;
		against_reference({ 16, 2 }, form, { { 960, 333 }, { 4096, 65 }, { 0, 127 }, { 192, 2 } }, 3);
		against_reference({ 24, 4 }, form, { { 0, 700 }, { 2048, 31 }, { 64, 128 } }, 3);
		against_reference({ 24, 4 }, form, { { 0, 129 } }, 100);
		against_reference({ 2, 2 }, form, { { 0, 129 } }, 3);
		against_reference({ 7, 1 }, form, { { 0, 129 }, { 128, 64 } }, 3);
		against_reference({ 10, 2 }, form, { { 0, 129 } }, 3);
		against_reference({ 16, 2 }, form, { { ATTN_PREFILL_SEGMENT - 64, 130 }, { 32640, 65 }, { 64, 1 } }, 3);
		against_reference({ 24, 4 }, form, { { 2 * ATTN_PREFILL_SEGMENT, 63 } }, 20);
		fp8_is_bf16({ 24, 4 }, form, { { 0, 700 }, { 2048, 31 }, { 64, 128 } }, false);
		fp8_is_bf16({ 7, 1 }, form, { { 0, 129 }, { 128, 64 } }, false);
		fp8_is_bf16({ 16, 2 }, form, { { ATTN_PREFILL_SEGMENT - 64, 130 }, { 32640, 65 }, { 64, 1 } }, false);
		for (shape sh : std::vector<shape>{ { 16, 2 }, { 24, 4 } })
			for (enum kv_format kv : { KV_BF16, KV_FP8 })
				cuts_change_nothing(c, sh, form, kv, 1999,
						    { { 1999 }, { 64, 1999 }, { 128, 192, 1999 }, { 1024, 1999 },
						      { 960, 1920, 1984, 1999 }, { 64, 128, 576, 1088, 1999 } });
		for (enum kv_format kv : { KV_BF16, KV_FP8 })
			cuts_change_nothing(c, { 6, 1 }, form, kv, 17000,
					    { { 64, 8192, 17000 }, { 8256, 16384, 16448, 17000 } });
	}
	if (argc > 1 && !strcmp(argv[1], "--bench"))
		bench(c, hopper);
	return n_failed ? 1 : 0;
}
