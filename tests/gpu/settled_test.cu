/* settled_test.cu - kernels that run beside the one before them (x_settled), also behind a choice that lets
 * them begin early: they read what the kernel before that one wrote, give the same bits, and end after it,
 * so that who waits for them has waited for both.  Exits 77 without a GPU; --few: fewer shapes, for the
 * sanitizers. */
#include <stdint.h>

#include "kernels/cuda/launch.cuh"
#include "tests/gpu/step_args.h"

static __device__ void spin(uint64_t ns)
{
	uint64_t begin, now;

	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
	do
		asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
	while (now - begin < ns);
}

/* to = from, late. */
__global__ void write_kernel(uint32_t *to, const uint32_t *from, uint32_t n)
{
	chain_wait();
	chain_release();
	spin(20000);
	for (uint32_t i = threadIdx.x; i < n; i += blockDim.x)
		to[i] = from[i];
}

/* The one that the tested kernel runs beside. */
__global__ void slow_kernel(uint32_t *late, uint32_t stamp)
{
	chain_wait();
	chain_release();
	spin(60000);
	*late = stamp;
}

/* The one that waits for the tested kernel: what it has written, and whether slow_kernel had. */
__global__ void read_kernel(uint32_t *to, const uint32_t *from, uint32_t n, uint32_t *seen, const uint32_t *late)
{
	chain_wait();
	chain_release();
	if (threadIdx.x == 0)
		*seen = *late;
	for (uint32_t i = threadIdx.x; i < n; i += blockDim.x)
		to[i] = from[i];
}

static cudaStream_t stream;
static bool few;

struct outcome {
	bool same, after;
};

/* `tested` reads in and writes out.  Three times beside slow_kernel, against once alone.  late_in: `in` is
 * written by the kernel just before the tested one, else by the one before slow_kernel. */
template <typename In, typename Out, typename Tested>
static outcome beside(array<In> &in, array<Out> &out, bool late_in, Tested tested)
{
	const uint32_t in_words = (uint32_t)(in.h.size() * sizeof(In) / 4),
		       out_words = (uint32_t)(out.h.size() * sizeof(Out) / 4);
	array<In> source(in.h.size());
	array<Out> want(out.h.size()), got(out.h.size());
	array<uint32_t> late(1), seen(1);
	outcome o = { true, true };
	const auto write = [&] {
		return chain_launch(write_kernel, dim3(1), 256, 0, 1, stream, (uint32_t *)in.d,
				    (const uint32_t *)source.d, in_words);
	};

	source.h = in.h;
	source.up();
	in.up();
	CUDA(cudaMemset(out.d, 0xee, out_words * 4));
	CUDA(cudaDeviceSynchronize());
	if (tested(false))
		return { false, false };
	CUDA(cudaDeviceSynchronize());
	CUDA(cudaMemcpy(want.h.data(), out.d, out_words * 4, cudaMemcpyDeviceToHost));
	for (uint32_t stamp = 1; stamp <= 3; stamp++) {
		CUDA(cudaMemset(in.d, 0, in_words * 4));
		CUDA(cudaMemset(out.d, 0xee, out_words * 4));
		CUDA(cudaMemset(late.d, 0, 4));
		CUDA(cudaDeviceSynchronize());
		if ((!late_in && write()) ||
		    chain_launch(slow_kernel, dim3(1), 32, 0, 1, stream, late.d, stamp) ||
		    (late_in && write()) || tested(true) ||
		    chain_launch(read_kernel, dim3(1), 256, 0, 1, stream, (uint32_t *)got.d, (const uint32_t *)out.d,
				 out_words, seen.d, (const uint32_t *)late.d))
			return { false, false };
		CUDA(cudaDeviceSynchronize());
		got.down();
		seen.down();
		o.same &= !memcmp(want.h.data(), got.h.data(), out_words * 4);
		o.after &= seen.h[0] == stamp;
	}
	return o;
}

static void products(enum matmul_format f)
{
	outcome all = { true, true };
	char name[80];

	/* A block a tile, in clusters, columns apart, wide. */
	for (uint32_t rows : { 1u, 8u, 9u, 24u, 40u, 64u })
		for (uint32_t n : { 48u, 257u, 1024u })
			for (uint32_t k : { 512u, 2048u, 4096u }) {
				if (few && (n != 257 || k == 2048 || rows == 9 || rows == 40))
					continue;
				array<__nv_bfloat16> x((size_t)rows * k);
				array<float> y((size_t)rows * n);
				array<uint32_t> w(matmul_packed_bytes(f, n, k) / 4);

				for (auto &v : x.h)
					v = __float2bfloat16_rn(uniform());
				fill_weights(f, w.h);
				w.up();
				const outcome o = beside(x, y, false, [&](bool settled) {
					decode_matmul_args a = product_args(f, w.d, n, k, x.d, y.d, rows);

					a.x_settled = settled;
					return decode_matmul(&a, stream);
				});

				if (!o.same || !o.after)
					printf("  %u rows, %u x %u: same %d, after %d\n", rows, n, k, o.same, o.after);
				all.same &= o.same;
				all.after &= o.after;
			}
	snprintf(name, sizeof(name), "a_product_beside_another_kernel_has_its_bits_%s", matmul_format_name(f));
	claim(name, all.same);
	snprintf(name, sizeof(name), "and_ends_after_it_%s", matmul_format_name(f));
	claim(name, all.after);
}

/* A choice that releases before it waits, alone (its logits come from the kernel just before) or with a product behind it that
 * needs neither it nor the kernel before it. */
static void early_choices(void)
{
	const uint32_t n = 1024, k = 2048;
	outcome all = { true, true }, behind = { true, true };
	array<uint32_t> w(matmul_packed_bytes(MATMUL_FP8, n, k) / 4);

	fill_weights(MATMUL_FP8, w.h);
	w.up();
	for (uint32_t rows : { 8u, 9u, 16u, 17u, 64u, 256u }) {
		array<float> logits((size_t)rows * (STEP_EXPERTS + 1)), y((size_t)rows * n);
		array<uint32_t> out(choice_words(rows));
		array<__nv_bfloat16> x((size_t)rows * k);

		for (auto &v : logits.h)
			v = 4 * uniform();
		for (auto &v : x.h)
			v = __float2bfloat16_rn(uniform());
		const outcome o = beside(logits, out, true, [&](bool early) {
			route_args a = choice_args(logits.d, rows, out.d);

			a.early = early;
			return route(&a, stream);
		});
		const outcome p = beside(x, y, false, [&](bool early) {
			route_args a = choice_args(logits.d, rows, out.d);
			decode_matmul_args b = product_args(MATMUL_FP8, w.d, n, k, x.d, y.d, rows);

			a.early = b.x_settled = early;
			return route(&a, stream) ?: decode_matmul(&b, stream);
		});

		if (!o.same || !o.after || !p.same || !p.after)
			printf("  %u rows: same %d %d, after %d %d\n", rows, o.same, p.same, o.after, p.after);
		all.same &= o.same;
		all.after &= o.after;
		behind.same &= p.same;
		behind.after &= p.after;
	}
	claim("an_early_choice_waits_for_its_logits", all.same && all.after);
	claim("a_product_behind_it_has_its_bits", behind.same);
	claim("and_ends_after_it_and_the_kernel_before", behind.after);
}

int main(int argc, char **argv)
{
	few = asked(argc, argv, "--few");
	if (!have_gpu())
		return 77;
	CUDA(cudaStreamCreate(&stream));
	for (enum matmul_format f : { MATMUL_BF16, MATMUL_FP8, MATMUL_NVFP4 })
		products(f);
	early_choices();
	return n_failed ? 1 : 0;
}
