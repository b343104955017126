/* attn_decode_test.cu - decode attention against a reference in double, over lengths around every
 * border of pages and splits; neighbours change no bit; an FP8 cache gives what a BF16 cache of its numbers
 * gives.  Exits 77 without a GPU; --few: fewer long rows, for the sanitizers; --bench: times instead. */
#include <xxhash.h>

#include "kernels/cuda/attn_decode.h"
#include "kernels/cuda/prefill_matmul.h"
#include "tests/gpu/gpu_test.h"
#include "tests/gpu/kv_reference.h"

static const int DIM = ATTN_DIM;

/* Rows with the given lengths, each with pages of its own in a shuffled pool; what lies behind a row's
 * length in its last page is NaN. */
struct problem {
	int qh, kvh;
	std::vector<uint32_t> lengths;
	bool bounded;	/* by a power of two, as the graphs of a step are */
	uint32_t n_blocks = 0;
	array<attn_row> rows;
	std::vector<uint32_t> table;
	array<uint32_t> *blocks;
	array<__nv_bfloat16> q, gate, *k, *v, out;
	array<float> *scratch;
	array<uint8_t> *kc = nullptr, *vc = nullptr;	/* once there is narrow() */
	enum kv_format kv = KV_BF16;
	int ordered = 0;

	/* !random: for times, keys and values of one number. */
	problem(int qh_, int kvh_, std::vector<uint32_t> len, bool poison = true, bool random = true)
		: qh(qh_), kvh(kvh_), lengths(len), bounded(!random), rows(len.size()), q(len.size() * (size_t)qh_ * DIM),
		  gate(len.size() * (size_t)qh_ * DIM), out(len.size() * (size_t)qh_ * DIM)
	{
		for (size_t i = 0; i < len.size(); i++) {
			/* as in a step; of a replay's last row; as if nothing were known */
			rows.h[i] = { len[i], n_blocks, i % 3 ? len[i] - std::min(len[i], i % 3 == 1 ? 1u : 70u) : 0 };
			if (!random)
				rows.h[i].old = len[i] - 1;
			n_blocks += (len[i] + ATTN_PAGE - 1) / ATTN_PAGE;
		}
		rows.up();
		for (uint32_t i = 0; i < n_blocks; i++)
			table.push_back(i);
		for (uint32_t i = n_blocks - 1; i > 0; i--)
			std::swap(table[i], table[rng() % (i + 1)]);
		blocks = new array<uint32_t>(n_blocks);
		blocks->h = table;
		blocks->up();
		q.fill_bf16();
		gate.fill_bf16();
		for (auto &x : q.h)	/* scores with a real spread */
			x = __float2bfloat16_rn(3 * __bfloat162float(x));
		q.up();
		k = new array<__nv_bfloat16>((size_t)n_blocks * kvh * ATTN_PAGE * DIM);
		v = new array<__nv_bfloat16>(k->h.size());
		if (random) {
			k->fill_bf16();
			v->fill_bf16();
		} else {
			CUDA(cudaMemset(k->d, 0x3c, k->h.size() * sizeof(k->h[0])));
			CUDA(cudaMemset(v->d, 0x3c, v->h.size() * sizeof(v->h[0])));
		}
		if (poison)
			poison_tails();
		scratch = new array<float>(attn_scratch_floats((uint32_t)len.size(), longest(), (uint32_t)qh));
	}
	~problem() { delete blocks; delete k; delete v; delete scratch; delete kc; delete vc; }
	/* An FP8 cache beside the other one, which then holds the same numbers; NaN and infinite powers behind the ends. */
	void narrow(void)
	{
		std::vector<uint8_t> codes[2];

		kv_narrow(k->h, codes[0]);
		kv_narrow(v->h, codes[1]);
		kc = new array<uint8_t>(codes[0].size());
		vc = new array<uint8_t>(codes[1].size());
		for (size_t r = 0; r < lengths.size(); r++)
			for (uint32_t key = lengths[r]; key % ATTN_PAGE; key++)
				for (int h = 0; h < kvh; h++)
					for (auto &c : codes) {
						uint8_t *head = &c[at(r, key, h) / KV_CODES * KV_HEAD];

						memset(head + (size_t)(key % ATTN_PAGE) * DIM, 0xff, DIM);
						head[KV_CODES + key % ATTN_PAGE] = 0xff;
					}
		kc->h = codes[0];
		vc->h = codes[1];
		poison_tails();		/* and up */
		kc->up();
		vc->up();
	}
	/* For times: an FP8 cache of one number everywhere. */
	void same_codes(enum kv_format format)
	{
		kv = format;
		if (kv == KV_BF16)
			return;
		kc = new array<uint8_t>(k->h.size() / KV_CODES * KV_HEAD);
		vc = new array<uint8_t>(kc->h.size());
		CUDA(cudaMemset(kc->d, 0x78, kc->h.size()));
		CUDA(cudaMemset(vc->d, 0x78, vc->h.size()));
	}
	uint32_t longest(void) const
	{
		uint32_t most = *std::max_element(lengths.begin(), lengths.end()), bound = 256;

		while (bounded && bound < most)
			bound *= 2;
		return bounded ? bound : most;
	}
	size_t at(size_t row, uint32_t key, int head) const
	{
		uint32_t b = table[rows.h[row].table + key / ATTN_PAGE];

		return (((size_t)b * kvh + head) * ATTN_PAGE + key % ATTN_PAGE) * DIM;
	}
	void poison_tails(void)
	{
		const __nv_bfloat16 nan = __float2bfloat16_rn(NAN);

		for (size_t r = 0; r < lengths.size(); r++)
			for (uint32_t key = lengths[r]; key % ATTN_PAGE; key++)
				for (int h = 0; h < kvh; h++)
					for (int d = 0; d < DIM; d++)
						k->h[at(r, key, h) + d] = v->h[at(r, key, h) + d] = nan;
		k->up();
		v->up();
	}
	attn_decode_args args(void)
	{
		const void *keys = kv == KV_FP8 ? (void *)kc->d : k->d, *values = kv == KV_FP8 ? (void *)vc->d : v->d;

		return { rows.d, (uint32_t)lengths.size(), longest(), (uint32_t)qh, (uint32_t)kvh, blocks->d, q.d, gate.d,
			 keys, values, scratch->d, out.d, kv, ordered };
	}
	bool run(void)
	{
		attn_decode_args a = args();

		CUDA(cudaMemset(out.d, 0xff, out.h.size() * 2));
		CUDA(cudaMemset(scratch->d, 0xff, scratch->h.size() * 4));
		if (attn_decode(&a, nullptr) != 0)
			return false;
		CUDA(cudaDeviceSynchronize());
		out.down();
		return out.guarded() && scratch->guarded();
	}
	void reference(size_t row, int head, std::vector<double> &o) const
	{
		const int kv = head / (qh / kvh);
		const __nv_bfloat16 *qq = &q.h[(row * qh + head) * DIM], *g = &gate.h[(row * qh + head) * DIM];
		std::vector<double> s(lengths[row]);
		double top = -1e300, sum = 0;

		for (uint32_t i = 0; i < lengths[row]; i++) {
			const __nv_bfloat16 *kk = &k->h[at(row, i, kv)];
			for (int d = 0; d < DIM; d++)
				s[i] += (double)__bfloat162float(qq[d]) * __bfloat162float(kk[d]);
			s[i] /= 16;
			top = std::max(top, s[i]);
		}
		o.assign(DIM, 0);
		for (uint32_t i = 0; i < lengths[row]; i++) {
			double p = std::exp(s[i] - top);
			const __nv_bfloat16 *vv = &v->h[at(row, i, kv)];
			sum += p;
			for (int d = 0; d < DIM; d++)
				o[d] += p * __bfloat162float(vv[d]);
		}
		for (int d = 0; d < DIM; d++)
			o[d] = o[d] / sum / (1 + std::exp(-(double)__bfloat162float(g[d])));
	}
};

static void against_reference(int qh, int kvh)
{
	problem p(qh, kvh, { 1, 2, 63, 64, 65, 127, 128, 129, 1000, 4096, 4097, 4224, 5000 });
	bool ok = p.run();
	double worst = 0;
	char name[128];

	for (size_t r = 0; r < p.lengths.size(); r++)
		for (int h = 0; h < qh; h += qh > 8 ? 5 : 1) {
			std::vector<double> ref;
			std::vector<float> got(DIM);

			p.reference(r, h, ref);
			for (int d = 0; d < DIM; d++)
				got[d] = __bfloat162float(p.out.h[(r * qh + h) * DIM + d]);
			worst = std::max(worst, relative_error(ref, got.data()));
		}
	/* probabilities and the result are bf16: 2^-9 each, averaged over keys and dims */
	printf("  heads %d/%d: worst relative error %.2e\n", qh, kvh, worst);
	snprintf(name, sizeof(name), "heads_%d_%d_follow_softmax", qh, kvh);
	claim(name, ok && worst < 5e-3);
}

/* Of heads with all kinds of powers; `broken`: some of the keys and values are no numbers. */
static void narrow(int qh, int kvh, bool broken)
{
	problem p(qh, kvh, { 1, 2, 63, 64, 65, 127, 128, 129, 1000, 4096, 4097, 4224, 5000, 17000 });
	std::vector<__nv_bfloat16> wide;
	size_t odd = 0;
	char name[128];
	bool ok;

	kv_spread(p.k->h, 4);
	kv_spread(p.v->h, 100);
	for (size_t r = 0; broken && r < p.lengths.size(); r += 2) {
		p.k->h[p.at(r, 0, 0) + 255] = __float2bfloat16_rn(r % 4 ? NAN : INFINITY);
		p.v->h[p.at(r, p.lengths[r] - 1, kvh - 1)] = __float2bfloat16_rn(r % 4 ? -INFINITY : NAN);
	}
	p.narrow();
	ok = p.run();
	wide = p.out.h;
	p.kv = KV_FP8;
	ok = p.run() && ok && p.kc->guarded() && p.vc->guarded();
	for (const __nv_bfloat16 &x : wide)
		odd += !std::isfinite(__bfloat162float(x));
	printf("  heads %d/%d: %zu of %zu results are no numbers\n", qh, kvh, odd, wide.size());
	snprintf(name, sizeof(name), "heads_%d_%d_fp8_is_bf16_of_its_numbers%s", qh, kvh, broken ? "_and_nan_stays" : "");
	claim(name, ok && !memcmp(wide.data(), p.out.h.data(), wide.size() * 2) && broken == (odd > 0));
}

static void exactness(enum kv_format kv, std::vector<uint32_t> lengths)
{
	problem p(16, 2, lengths);
	bool ok, same = true;
	char name[128];

	p.kv = kv;
	if (kv == KV_FP8)
		p.narrow();
	ok = p.run();
	std::vector<__nv_bfloat16> all = p.out.h;
	const size_t n = (size_t)p.qh * DIM;

	for (size_t r = 0; r < lengths.size() && ok; r++) {
		attn_decode_args a = p.args();

		CUDA(cudaMemset(p.out.d, 0xff, p.out.h.size() * 2));
		a.rows += r;
		a.n_rows = 1;
		a.max_length = lengths[r];
		a.q = p.q.d + r * n;
		a.gate = p.gate.d + r * n;
		ok = attn_decode(&a, nullptr) == 0;
		CUDA(cudaDeviceSynchronize());
		p.out.down();
		same = same && !memcmp(p.out.h.data(), &all[r * n], n * 2);
	}
	/* the same in every build */
	printf("  digest %016llx\n", (unsigned long long)XXH64(all.data(), all.size() * 2, 0));
	snprintf(name, sizeof(name), "%s_%zu_neighbours_change_no_bit", kv_format_name(kv), lengths.size());
	claim(name, ok && same);
}

/* The same values in the order of steps. */
static void in_order(std::vector<uint32_t> lengths)
{
	problem p(16, 2, lengths);
	bool ok = p.run();
	const std::vector<__nv_bfloat16> plain = p.out.h;

	p.ordered = 1;
	ok = ok && p.run();
	for (uint32_t i = 0; i < plain.size(); i++)
		ok = ok && !memcmp(&plain[i], &p.out.h[prefill_column(i)], 2);
	printf("  longest %u\n", p.longest());
	claim("the_order_of_steps_changes_no_value", ok);
}

/* More splits than a chip has places for, of every length that a split has but the longest. */
static std::vector<uint32_t> crowd(void)
{
	std::vector<uint32_t> lengths;

	for (int i = 0; i < 150; i++)
		lengths.push_back(1 + rng() % (i % 10 ? 700 : i % 50 ? 4500 : 17000));
	return lengths;
}

static void refuses(void)
{
	attn_decode_args a = {};

	a.n_rows = 1;
	a.max_length = 1;
	a.q_heads = 9;
	a.kv_heads = 1;
	claim("a_group_of_nine_is_refused", attn_decode(&a, nullptr) != 0);
}

/* 10 layers of the 35B's shape (16 / 2 heads) in one graph. */
static void bench(void)
{
	const int LAYERS = 10;
	const double roof = copy_roof();

	printf("%d layers of 16/2 heads in one graph\n\n", LAYERS);
	printf("| KV | rows | length | us a layer | GB/s of KV | of the copy roof |\n|---|--:|--:|--:|--:|--:|\n");
	for (auto c : std::vector<std::pair<int, uint32_t>>{ { 1, 1100 }, { 1, 8300 }, { 1, 65700 }, { 1, 33000 }, 
							       { 16, 1100 }, { 64, 1100 }, { 16, 8300 }, { 64, 8300 } })
		for (enum kv_format kv : { KV_BF16, KV_FP8 }) {
			std::vector<problem *> layers;
			double bytes = (double)c.first * c.second * 2 * 2 * (double)attn_head_bytes(kv) / ATTN_PAGE;

			for (int i = 0; i < LAYERS && (i < 1 || bytes * i < 2.5e8); i++) {
				layers.push_back(new problem(16, 2, std::vector<uint32_t>((size_t)c.first, c.second), false, false));
				layers[(size_t)i]->same_codes(kv);
			}
			double us = 1000.0 / LAYERS * graph_ms(30, [&](cudaStream_t s) {
				for (int i = 0; i < LAYERS; i++) {
					attn_decode_args a = layers[(size_t)i % layers.size()]->args();
					attn_decode(&a, s);
				}
			});
			printf("| %s | %d | %u | %.2f | %.0f | %.2f |\n", kv_format_name(kv), c.first, c.second, us, bytes / us / 1e3,
			       bytes / us / 1e6 / roof);
			for (auto *p : layers)
				delete p;
		}
}

int main(int argc, char **argv)
{
	if (!have_gpu())
		return 77;
	const bool few = asked(argc, argv, "--few");

	if (asked(argc, argv, "--bench")) {
		bench();
		return 0;
	}
	against_reference(16, 2);
	against_reference(24, 4);
	against_reference(8, 1);
	for (enum kv_format kv : { KV_BF16, KV_FP8 }) {
		exactness(kv, { 700, 64, 9000, 1, 333, 20000, 4100 });
		if (!few)
			exactness(kv, { 70000, 300, 65537 });
		/* Of five rows the one merge (attn_decode.cu), of the first alone the other. */
		exactness(kv, { 65536, 300, 1, 2, 3 });
		if (!few)
			exactness(kv, crowd());
	}
	narrow(16, 2, false);
	narrow(24, 4, false);
	narrow(7, 1, true);
	in_order({ 700, 5, 9000 });
	in_order({ 70000, 3 });
	refuses();
	return n_failed ? 1 : 0;
}
