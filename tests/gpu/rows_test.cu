/* rows_test.cu - the row-wise decode kernels against references in double; neighbours change no bit.
 * Exits 77 without a GPU; --few: fewer sizes, for the sanitizers. */
#include "kernels/cuda/prefill_matmul.h"
#include "kernels/cuda/residual.h"
#include "kernels/cuda/route.h"
#include "kernels/cuda/rows.h"
#include "tests/gpu/gpu_test.h"
#include "tests/gpu/kv_reference.h"

static bool few;

static float f(__nv_bfloat16 x)
{
	return __bfloat162float(x);
}

/* Within half an ulp of bf16 (at most 2^-8 relative) and a hair for float32's own error. */
static bool near_bf16(double ref, float got)
{
	return std::fabs(ref - got) <= std::fabs(ref) * (1.0 / 256 + 1e-5) + 1e-30;
}

static void norms(void)
{
	bool ok = true, same = true;

	for (uint32_t width : { 128u, 384u, 2048u, 5120u, 2056u }) {
		const uint32_t rows = 5;
		array<__nv_bfloat16> x((size_t)rows * width), w(width), out((size_t)rows * width), one(width);
		rms_norm_args a = { x.d, w.d, out.d, rows, width, 1e-6f };
		rms_norm_args b = { x.d + 3 * (size_t)width, w.d, one.d, 1, width, 1e-6f };

		x.fill_bf16();
		w.fill_bf16();
		ok = ok && rms_norm(&a, nullptr) == 0 && rms_norm(&b, nullptr) == 0;
		CUDA(cudaDeviceSynchronize());
		out.down();
		one.down();
		for (uint32_t r = 0; r < rows; r++) {
			double sum = 0;
			for (uint32_t i = 0; i < width; i++)
				sum += (double)f(x.h[r * width + i]) * f(x.h[r * width + i]);
			for (uint32_t i = 0; i < width; i++)
				ok = ok && near_bf16(f(x.h[r * width + i]) / std::sqrt(sum / width + 1e-6) *
							     (1.0 + f(w.h[i])), f(out.h[r * width + i]));
		}
		same = same && !memcmp(one.h.data(), &out.h[3 * (size_t)width], width * 2);
		ok = ok && out.guarded() && one.guarded();
	}
	claim("rms_norm_rounds_once", ok);
	claim("rms_norm_rows_do_not_mix", same);
}

static void rope(void)
{
	const uint32_t qh = 6, kvh = 2, half = 32, positions = 5000;
	array<qk_row> rows(3);
	const uint32_t k_at = qh * 512, v_at = k_at + kvh * 256, ld = v_at + kvh * 256 + 24;
	array<__nv_bfloat16> u(3 * ld), qn(256), kn(256), cs(positions * half),
		sn(cs.h.size()), q(3 * qh * 256), gate(q.h.size()), kc(4 * kvh * 64 * 256), vc(kc.h.size());
	qk_rope_args a = { rows.d, 3, qh, kvh, ld, u.d, u.d + k_at, u.d + v_at, qn.d, kn.d, cs.d, sn.d, 64, 11, 10, 1e-6f, q.d, gate.d,
			   kc.d, vc.d, KV_BF16 };
	bool ok, copied = true;

	rows.h = { { { 0, 0, 0 }, 2, 0 }, { { 4999, 17, 300 }, 0, 63 }, { { 64, 64, 64 }, 3, 5 } };
	rows.up();
	for (auto *x : { &u, &qn, &kn })
		x->fill_bf16();
	for (uint32_t p = 0; p < positions; p++)
		for (uint32_t j = 0; j < half; j++) {
			double angle = p * std::pow(1e7, -2.0 * j / 64);
			cs.h[p * half + j] = __float2bfloat16_rn((float)std::cos(angle));
			sn.h[p * half + j] = __float2bfloat16_rn((float)std::sin(angle));
		}
	cs.up();
	sn.up();
	kc.up();
	vc.up();
	ok = qk_rope(&a, nullptr) == 0;
	CUDA(cudaDeviceSynchronize());
	for (auto *x : { &q, &gate, &kc, &vc })
		x->down();
	auto head = [&](const __nv_bfloat16 *x, const __nv_bfloat16 *w, const qk_row &row, const __nv_bfloat16 *got) {
		double n[256], sum = 0;
		for (int d = 0; d < 256; d++)
			sum += (double)f(x[d]) * f(x[d]);
		for (int d = 0; d < 256; d++)
			n[d] = f(x[d]) / std::sqrt(sum / 256 + 1e-6) * (1.0 + f(w[d]));
		for (int d = 0; d < 256; d++) {
			double want = n[d], size = std::fabs(n[d]);
			if (d < 64) {
				int j = d % 32, axis = j % 3 == 1 && j < 33 ? 1 : j % 3 == 2 && j < 30 ? 2 : 0;
				double c = f(cs.h[row.position[axis] * half + j]), s = f(sn.h[row.position[axis] * half + j]);
				want = d < 32 ? n[d] * c - n[d + 32] * s : n[d] * c + n[d - 32] * s;
				size = std::fabs(n[d]) + std::fabs(n[d < 32 ? d + 32 : d - 32]);
			}
			/* the difference of two products may cancel: float32's error scales with them */
			ok = ok && std::fabs(want - f(got[d])) <= std::fabs(want) / 256 + size * 1e-6;
		}
	};
	for (uint32_t r = 0; r < 3; r++) {
		for (uint32_t h = 0; h < qh; h++) {
			const __nv_bfloat16 *x = &u.h[r * ld + h * 512];
			head(x, qn.h.data(), rows.h[r], &q.h[(r * qh + h) * 256]);
			copied = copied && !memcmp(&gate.h[(r * qh + h) * 256], x + 256, 512);
		}
		for (uint32_t h = 0; h < kvh; h++) {
			size_t at = ((rows.h[r].block * kvh + h) * 64 + rows.h[r].offset) * 256;
			head(&u.h[r * ld + k_at + h * 256], kn.h.data(), rows.h[r], &kc.h[at]);
			copied = copied && !memcmp(&vc.h[at], &u.h[r * ld + v_at + h * 256], 512);
		}
	}
	claim("heads_are_normed_and_rotated_on_three_axes", ok && q.guarded() && kc.guarded());
	claim("gate_and_values_are_copied", copied && gate.guarded() && vc.guarded());
}

/* Every bfloat16 as the largest of a head, beside smaller ones of all kinds, as values; and keys with a norm and a rotation:
 * codes and powers are those that e4m3_head() makes of what the BF16 cache gets, and nothing else is written. */
static void rope_fp8(void)
{
	const uint32_t kvh = 4, half = 32, blocks = 3, n_rows = 2 * ATTN_PAGE, ld = (2 + 2 * kvh) * 256;
	array<qk_row> rows(n_rows);
	array<__nv_bfloat16> u((size_t)n_rows * ld), qn(256), kn(256), cs(1000 * half), sn(cs.h.size()), q(n_rows * 256),
		gate(q.h.size()), kc(blocks * kvh * KV_CODES), vc(kc.h.size());
	array<uint8_t> k8(blocks * kvh * KV_HEAD), v8(k8.h.size());
	qk_rope_args a = { rows.d, n_rows, 1, kvh, ld, u.d, u.d + 512, u.d + 512 + kvh * 256, qn.d, kn.d, cs.d, sn.d, 64, 11, 10,
			   1e-6f, q.d, gate.d, kc.d, vc.d, KV_BF16 };
	bool same = true, ok = true, guards = true;

	/* two of the three blocks, places from the end */
	for (uint32_t r = 0; r < n_rows; r++)
		rows.h[r] = { { r, 2 * r, 999 - r }, r / ATTN_PAGE * 2, ATTN_PAGE - 1 - r % ATTN_PAGE };
	rows.up();
	for (auto *x : { &qn, &kn, &cs, &sn })
		x->fill_bf16();
	kc.up();	/* a block of three stays as it is, and comes back */
	vc.up();
	for (uint32_t first = 0; first < 0x10000; first += (few ? 32 : 1) * n_rows * kvh) {
		std::vector<uint8_t> want_k(k8.h.size(), 0xee), want_v(want_k);

		for (auto &x : u.h)
			x = __float2bfloat16_rn(8 * uniform());
		for (uint32_t i = 0; i < n_rows * kvh; i++) {
			__nv_bfloat16 *v = &u.h[(size_t)(i / kvh) * ld + 512 + (kvh + i % kvh) * 256];
			const uint16_t most = (uint16_t)(first + i);

			for (uint32_t d = 0; d < 256; d++) {
				const uint16_t less = (uint16_t)(most - std::min<uint32_t>(most & 0x7fff, rng() % (d < 200 ? 1800 : 40)));
				const uint16_t bits = d == first / 512 % 256 ? most : (uint16_t)(less ^ (rng() % 2 << 15));

				memcpy((void *)&v[d], &bits, 2);
			}
		}
		u.up();
		a.k_cache = kc.d;
		a.v_cache = vc.d;
		a.kv = KV_BF16;
		ok = ok && qk_rope(&a, nullptr) == 0;
		k8.h.assign(k8.h.size(), 0xee);
		v8.h = k8.h;
		k8.up();
		v8.up();
		a.k_cache = k8.d;
		a.v_cache = v8.d;
		a.kv = KV_FP8;
		ok = ok && qk_rope(&a, nullptr) == 0;
		CUDA(cudaDeviceSynchronize());
		kc.down();
		vc.down();
		k8.down();
		v8.down();
		for (uint32_t i = 0; i < n_rows * kvh; i++) {
			const qk_row &row = rows.h[i / kvh];
			const size_t head = row.block * kvh + i % kvh, from = head * KV_CODES + row.offset * 256;

			kv_put(&want_k[head * KV_HEAD], row.offset, &kc.h[from]);
			kv_put(&want_v[head * KV_HEAD], row.offset, &vc.h[from]);
		}
		same = same && want_k == k8.h && want_v == v8.h;
		guards = guards && k8.guarded() && v8.guarded();
	}
	claim("fp8_codes_and_powers_are_those_of_e4m3_head", ok && same && guards);
}

/* Choice, weights and list of `rows` rows; few and many rows go through different kernels. */
static void experts(uint32_t rows, uint32_t n, bool shared, bool list_shared)
{
	const uint32_t stride = n + 1, top = 8, slots = top + shared, listed = n + (shared && list_shared);
	array<float> logits(rows * stride), weights(rows * slots);
	array<uint32_t> ids(rows * slots);
	array<unsigned char> mem(expert_list_bytes(rows, slots, n + 1));
	const expert_list list = expert_list_at(mem.d, rows, slots, n + 1);
	route_args a = { logits.d, rows, n, stride, top, shared, list_shared, ids.d, weights.d, list };
	std::vector<std::vector<uint32_t>> pairs(n + 1);
	bool ok, good = true;

	for (uint32_t i = 0; i < logits.h.size(); i++)	/* many ties; the last column must not be chosen */
		logits.h[i] = i % stride == n ? 100 : (float)(int)(rng() % 17) / 4 - 2;
	for (uint32_t i = 0; i < n; i++)
		logits.h[i] = -1;			/* all equal: the lowest ids win */
	logits.up();
	mem.up();	/* a list may be shorter than its room, all of which comes back */
	ok = route(&a, nullptr) == 0;
	CUDA(cudaDeviceSynchronize());
	ids.down();
	weights.down();
	mem.down();
	for (uint32_t r = 0; r < rows; r++) {
		std::vector<uint32_t> order(n);
		double sum = 0;

		for (uint32_t i = 0; i < n; i++)
			order[i] = i;
		std::stable_sort(order.begin(), order.end(), [&](uint32_t x, uint32_t y) {
			return logits.h[r * stride + x] > logits.h[r * stride + y];
		});
		for (uint32_t i = 0; i < top; i++)
			sum += std::exp((double)logits.h[r * stride + order[i]]);
		for (uint32_t i = 0; i < slots; i++) {
			const uint32_t want = i < top ? order[i] : n;
			const double w = i < top ? std::exp((double)logits.h[r * stride + want]) / sum
						 : 1 / (1 + std::exp(-100.0));

			ok = ok && ids.h[r * slots + i] == want &&
			     std::fabs((double)weights.h[r * slots + i] - w) < 1e-6;
			if (want < listed)
				pairs[want].push_back(r * slots + i);
		}
	}
	auto at = [&](const uint32_t *p) { return (const uint32_t *)(mem.h.data() + ((const unsigned char *)p - mem.d)); };
	uint32_t active = 0;
	for (uint32_t e = 0; e < n + 1; e++) {
		if (pairs[e].empty())
			continue;
		const uint32_t first = at(list.offset)[active], end = at(list.offset)[active + 1];

		good = good && at(list.active)[active] == e && end - first == pairs[e].size() &&
		       !memcmp(at(list.pair) + first, pairs[e].data(), pairs[e].size() * 4);
		active++;
	}
	good = good && *at(list.n_active) == active;
	printf("  %u rows, %u experts, shared %d%s\n", rows, n, shared, list_shared ? ", listed" : "");
	claim("experts_by_logit_then_by_id", ok && ids.guarded() && weights.guarded());
	claim("pairs_are_listed_by_expert", good && mem.guarded());
}

static void refuses(void)
{
	route_args c = {};
	qk_rope_args q = {};
	rms_norm_args n = {};

	c.rows = 1;
	c.experts = c.stride = 2000;
	c.top = 8;
	q.n_rows = q.q_heads = q.kv_heads = 1;
	q.rotary = 63;
	n.rows = 1;
	n.width = 12;
	claim("odd_shapes_are_refused", route(&c, nullptr) && qk_rope(&q, nullptr) && rms_norm(&n, nullptr));
}

/* Rows picked as they are, and into prefill order. */
static void gathered(void)
{
	const uint32_t rows = 7, n = 4, width = 2080;	/* more than a block takes at once */
	array<uint16_t> from((size_t)rows * width), out((size_t)n * width);
	array<uint32_t> index(n);
	bool ok = true;

	for (size_t i = 0; i < from.h.size(); i++)
		from.h[i] = (uint16_t)(i * 40503u >> 3);
	index.h = { 5, 0, 5, 6 };
	from.up();
	index.up();
	for (int ordered = 0; ordered < 2; ordered++) {
		ok = ok && gather_rows(from.d, index.d, n, width, ordered, out.d, nullptr) == 0;
		CUDA(cudaDeviceSynchronize());
		out.down();
		for (uint32_t r = 0; r < n; r++)
			for (uint32_t i = 0; i < width; i++)
				ok = ok && out.h[r * width + (ordered ? prefill_column(i) : i)] ==
						   from.h[index.h[r] * width + i];
	}
	ok = ok && out.guarded() &&
	     gather_rows(from.d, index.d, n, width - 8, 1, out.d, nullptr) == -EINVAL;
	claim("rows_are_picked_in_either_order", ok);
}

int main(int argc, char **argv)
{
	few = asked(argc, argv, "--few");
	if (!have_gpu())
		return 77;
	norms();
	gathered();
	rope();
	rope_fp8();
	for (uint32_t rows : { 1u, 7u, 16u, 33u, 200u })
		for (uint32_t n : { 12u, 256u, 500u }) {
			if (few && n == 500)
				continue;
			experts(rows, n, true, true);
			experts(rows, n, true, false);
			experts(rows, n, false, false);
		}
	refuses();
	return n_failed ? 1 : 0;
}
