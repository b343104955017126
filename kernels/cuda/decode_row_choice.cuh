/* decode_row_choice.cuh - who is chosen for one row, by a block of decode_row.cuh: what route_choice.cuh
 * chooses, with its weights. */
#ifndef HEARTH_KERNELS_CUDA_DECODE_ROW_CHOICE_CUH
#define HEARTH_KERNELS_CUDA_DECODE_ROW_CHOICE_CUH

#include "kernels/cuda/decode_row_int.cuh"

/* What route_choice.cuh chooses, by the whole block: a warp orders the largest of 32 logits by counting
 * who is larger, then the warps' largest are ordered the same way. */
static __device__ __forceinline__ void row_choose(const struct route_args &a, struct row_shared &s)
{
	const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	const uint32_t lists = (a.experts + WARP - 1) / WARP;
	const bool counts = warp < lists;

	if (counts) {
		const uint32_t id = threadIdx.x;
		const uint32_t key = id < a.experts ? order_bits(__ldcg(a.logits + id)) : 0;
		uint32_t larger[4] = {};	/* four sums that do not wait for each other */

		s.own[warp].key[lane] = key;
		__syncwarp();
#pragma unroll
		for (uint32_t i = 0; i < WARP; i += 4) {
			const uint4 four = *(const uint4 *)&s.own[warp].key[i];

			larger[0] += four.x > key;
			larger[1] += four.y > key;
			larger[2] += four.z > key;
			larger[3] += four.w > key;
		}

		/* Of equals the lower id is the first. */
		const uint32_t before = __popc(__match_any_sync(~0u, key) & ((1u << lane) - 1));
		const uint32_t rank = larger[0] + larger[1] + larger[2] + larger[3] + before;

		if (rank < ROW_TOP)
			s.best[warp * ROW_TOP + rank] = (uint64_t)key << 32 | (uint32_t)~id;
	}
	__syncthreads();
	if (counts) {	/* four threads a candidate, each a quarter of the others */
		const uint32_t part = threadIdx.x % 4;
		const uint64_t own = s.best[threadIdx.x / 4];
		uint32_t larger[2] = {};

#pragma unroll 4
		for (uint32_t i = 0; i < lists; i++) {
			const ulonglong2 two = *(const ulonglong2 *)&s.best[i * ROW_TOP + 2 * part];

			larger[0] += two.x > own;
			larger[1] += two.y > own;
		}

		uint32_t rank = larger[0] + larger[1];

		rank += __shfl_xor_sync(~0u, rank, 1);
		rank += __shfl_xor_sync(~0u, rank, 2);
		if (part == 0 && rank < a.top) {
			/* Fewer than `top` numbers: as route_choice.cuh has it. */
			s.chosen[rank] = (uint32_t)(own >> 32);
			s.id[rank] = own >> 32 ? ~(uint32_t)own : 0;
		}
	}
	__syncthreads();
}

/* Weights of the slots, by a warp; `store`: and what others want to know of the choice. */
static __device__ __forceinline__ void row_weigh(const struct route_args &a, struct row_shared &s,
						 float score, bool store)
{
	const uint32_t lane = threadIdx.x % WARP;
	struct slot_choice c = { 0, NAN, score };

	if (lane < a.top)
		c = { s.id[lane], order_value(s.chosen[lane]), score };
	else if (lane == a.top)
		c.id = a.experts;

	const float weight = choice_weight(a, c);

	if (lane < route_slots(a))
		s.weight[lane] = weight;
	if (!store)
		return;
	if (lane < route_slots(a)) {
		a.ids[lane] = c.id;
		a.weights[lane] = weight;
	}

	/* Only id 0 can be there twice, in place of numbers that there were not. */
	const bool slot = lane < a.top;
	const uint32_t some = __popc(__ballot_sync(~0u, slot && c.id));
	const bool zero = __any_sync(~0u, slot && !c.id);

	if (lane == 0)
		*a.list.n_active = some + zero + (a.shared && a.list_shared ? 1 : 0);
}

#endif
