/* gdn_scan.cu - the chunks of a run in order; the state never leaves the registers.
 *
 * A block owns 32 value dimensions of a head of a run, four blocks (a cluster) the head.  All
 * products are transposed, values x tokens, so that what one product gives is the A operand of the
 * next without leaving the registers:
 *	X = V - exp(G) (S K^T),   V' = X T^T,   S <- exp(G_last) S + (V' exp(G_last - G)) K
 *	O = exp(G) (S Q^T) + V' P^T
 * A state warp owns 16 value dimensions x 128 keys of S and waits for nobody but the copy engine.
 * S and V' go as fragments through shared memory: two output warps, 32 tokens each, make O, the
 * norm's sum over the head's 128 values (through the cluster), and the rows of the result, a chunk
 * behind.  One lane of two of them drives the copies.
 *
 * Operands are fp16.  T, P and the keys are at most 1; S and V are as they are while their largest
 * in a row of S lies in [2^-10, 2^9], which leaves fp16 both its 11 bits and room for the sums; a
 * chunk where some row's does not has those rows multiplied by a power of two first and divided
 * after.  This looks at S at the chunk's start and at the chunk's V alone.
 */
#include <cooperative_groups.h>
#include <errno.h>

#include "kernels/cuda/gdn_scan_output.cuh"
#include "kernels/cuda/gdn_scan_state.cuh"
#include "kernels/cuda/launch.cuh"

namespace cg = cooperative_groups;

namespace gdn {
namespace {

__device__ void init(shared &s)
{
	for (int i = 0; i < 2; i++) {
		barrier_init(&s.k[i].full, 1);
		barrier_init(&s.k[i].empty, HEAD_PAIRS);
		barrier_init(&s.p[i].full, 1);
		barrier_init(&s.p[i].empty, HEAD_PAIRS * HALVES);
	}
	barrier_init(&s.q.full, 1);
	barrier_init(&s.q.empty, HEAD_PAIRS * HALVES);
	for (int i = 0; i < PAIRS; i++) {
		barrier_init(&s.s[i].full, 1);
		barrier_init(&s.s[i].empty, HALVES);
		barrier_init(&s.w[i].full, 1);
		barrier_init(&s.w[i].empty, HALVES);
	}
	barrier_init(&s.norm[0], 1);
	barrier_init(&s.norm[1], 1);
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__global__ void __launch_bounds__(THREADS, HOPPER ? 2 : 1)
	scan_kernel(const __grid_constant__ scan_args g)
{
	extern __shared__ __align__(128) unsigned char memory[];
	shared &s = *(shared *)memory;
	const gdn_prefill_run run = g.a.runs[blockIdx.y];
	const work o = { g, run, (run.n + C - 1) / C, (int)blockIdx.x / SLICES,
			 (int)blockIdx.x % SLICES };
	const int warp = threadIdx.x / 32;

	if (threadIdx.x == 0)
		init(s);
	cg::this_cluster().sync();
	chain_wait();
	chain_release();
	if (warp < PAIRS)
		state_warp(s, o, warp);
	else
		output_warp(s, o, { (warp - PAIRS) / HALVES, (warp - PAIRS) % HALVES });
	__syncwarp();
	/* nobody leaves while the others copy to it or arrive there */
	cg::this_cluster().sync();
}

static_assert(sizeof(shared) <= 99 * 1024, "every GPU that Hearth is for has 99 KB");

} /* namespace */

int scan(const struct gdn_prefill_args *a, cudaStream_t stream)
{
	const int major = device_major();

	if (!major ||
	    cudaFuncSetAttribute(scan_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
				 sizeof(shared)) != cudaSuccess)
		return -ENODEV;
	if (a->form == GDN_SCAN_TOGETHER && major != 9)
		return -EINVAL;
	const scan_args args = { *a, a->form ? a->form == GDN_SCAN_TOGETHER : major == 9 };

	return chain_launch(scan_kernel, dim3(a->v_heads * SLICES, a->n_runs), THREADS,
			    sizeof(shared), SLICES, stream, args);
}

} /* namespace gdn */
