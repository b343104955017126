/* expert_list.cuh - the list of pairs by expert, built by one block without a race: each warp
 * counts its own run of pairs, equal ids inside 32 pairs are ranked by lane, and prefix sums over
 * warps and experts give every pair one place, in increasing order inside its expert.  Included by
 * expert_list.cu. */
#ifndef HEARTH_KERNELS_CUDA_EXPERT_LIST_CUH
#define HEARTH_KERNELS_CUDA_EXPERT_LIST_CUH

#include "kernels/cuda/decode_matmul_int.cuh"

#define LIST_THREADS 512
#define LIST_WARPS (LIST_THREADS / WARP)
static_assert(LIST_THREADS >= MATMUL_MAX_EXPERTS, "a thread an expert");

struct list_params {
	uint32_t n_pairs, n_experts;
	struct expert_list list;
};

/* Runs over this warp's pairs; place(pair, id, rank among the warp's pairs of that id). */
template <class Id, class Place>
static __device__ __forceinline__ void each_pair(const struct list_params &p, const Id *ids,
						 uint32_t *count, Place place)
{
	const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	const uint32_t run = (p.n_pairs + LIST_THREADS - 1) / LIST_THREADS * WARP;
	const uint32_t end = min(p.n_pairs, (warp + 1) * run);

#pragma unroll 1
	for (uint32_t first = warp * run; first < end; first += WARP) {
		uint32_t pair = first + lane;
		uint32_t id = pair < end ? ids[pair] : ~0u;
		const bool listed = id < p.n_experts;	/* the others are nobody's */

		id = listed ? id : ~0u;
		uint32_t same = __match_any_sync(~0u, id);
		uint32_t before = __popc(same & ((1u << lane) - 1));
		uint32_t so_far = listed ? count[id] : 0;

		__syncwarp();
		if (listed) {
			place(pair, id, so_far + before);
			if (!before)
				count[id] = so_far + __popc(same);
		}
		__syncwarp();
	}
}

/* By one block of LIST_THREADS; ids: [n_pairs], in memory of any kind. */
template <class Id>
static __device__ __forceinline__ void list_block(const struct list_params &p, const Id *ids)
{
	__shared__ uint32_t count[LIST_WARPS][MATMUL_MAX_EXPERTS];
	__shared__ uint32_t warp_sum[LIST_WARPS];
	const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, e = threadIdx.x;
	uint32_t total = 0, sum, before = 0;

#pragma unroll 4
	for (uint32_t w = 0; w < LIST_WARPS; w++)
		count[w][e] = 0;
	__syncthreads();
	each_pair(p, ids, count[warp], [](uint32_t, uint32_t, uint32_t) {});
	__syncthreads();

	/* Both sums in one: active experts above bit 16, pairs below. */
#pragma unroll 4
	for (uint32_t w = 0; w < LIST_WARPS; w++) {
		uint32_t here = count[w][e];

		count[w][e] = total;
		total += here;
	}
	sum = total | (uint32_t)(total > 0) << 16;
	for (int d = 1; d < WARP; d *= 2) {
		uint32_t up = __shfl_up_sync(~0u, sum, d);

		if (lane >= (uint32_t)d)
			sum += up;
	}
	if (lane == WARP - 1)
		warp_sum[warp] = sum;
	__syncthreads();
	for (uint32_t w = 0; w < warp; w++)
		before += warp_sum[w];
	sum += before;

	const uint32_t first = (sum & 0xffff) - total, index = (sum >> 16) - (total > 0);

	if (total) {
		p.list.active[index] = e;
		p.list.offset[index] = first;
	}
	if (e == LIST_THREADS - 1) {
		*p.list.n_active = sum >> 16;
		p.list.offset[sum >> 16] = sum & 0xffff;
	}
#pragma unroll 4
	for (uint32_t w = 0; w < LIST_WARPS; w++)
		count[w][e] += first;
	__syncthreads();
	each_pair(p, ids, count[warp],
		  [&](uint32_t pair, uint32_t, uint32_t at) { p.list.pair[at] = pair; });
}

#endif
