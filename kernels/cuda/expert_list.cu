/* expert_list.cu - who goes to which expert, and the sum of what came back.
 *
 * The list is built by one block without a race: each warp counts its own run of pairs,
 * equal ids inside 32 pairs are ranked by lane, and prefix sums over warps and experts
 * give every pair one place, in increasing order inside its expert. */
#include "kernels/cuda/decode_matmul_int.cuh"

#define LIST_THREADS 512
#define LIST_WARPS (LIST_THREADS / WARP)
static_assert(LIST_THREADS >= MATMUL_MAX_EXPERTS, "a thread an expert");

struct list_params {
	const uint32_t *ids;
	uint32_t n_pairs, n_experts;
	struct expert_list list;
};

/* Runs over this warp's pairs; place(pair, id, rank among the warp's pairs of that id). */
template <class Place>
static __device__ __forceinline__ void each_pair(const struct list_params &p, uint32_t *count,
						 Place place)
{
	const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
	const uint32_t run = (p.n_pairs + LIST_THREADS - 1) / LIST_THREADS * WARP;
	const uint32_t end = min(p.n_pairs, (warp + 1) * run);

	for (uint32_t first = warp * run; first < end; first += WARP) {
		uint32_t pair = first + lane;
		uint32_t id = pair < end ? p.ids[pair] : ~0u;
		uint32_t same = __match_any_sync(~0u, id);
		uint32_t before = __popc(same & ((1u << lane) - 1));
		uint32_t so_far = pair < end ? count[id] : 0;

		__syncwarp();
		if (pair < end) {
			place(pair, id, so_far + before);
			if (!before)
				count[id] = so_far + __popc(same);
		}
		__syncwarp();
	}
}

__global__ void __launch_bounds__(LIST_THREADS)
	list_kernel(const __grid_constant__ struct list_params p)
{
	__shared__ uint32_t count[LIST_WARPS][MATMUL_MAX_EXPERTS];
	__shared__ uint32_t warp_sum[LIST_WARPS];
	const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, e = threadIdx.x;
	uint32_t total = 0, sum, before = 0;

	for (uint32_t w = 0; w < LIST_WARPS; w++)
		count[w][e] = 0;
	__syncthreads();
	each_pair(p, count[warp], [](uint32_t, uint32_t, uint32_t) {});
	__syncthreads();

	/* Both sums in one: active experts above bit 16, pairs below. */
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
		p.list.offset[sum >> 16] = p.n_pairs;
	}
	for (uint32_t w = 0; w < LIST_WARPS; w++)
		count[w][e] += first;
	__syncthreads();
	each_pair(p, count[warp],
		  [&](uint32_t pair, uint32_t, uint32_t at) { p.list.pair[at] = pair; });
}

static size_t list_align(size_t bytes)
{
	return (bytes + 15) / 16 * 16;
}

size_t expert_list_bytes(uint32_t n_rows, uint32_t n_slots, uint32_t n_experts)
{
	return 16 + list_align(4 * (size_t)n_experts) + list_align(4 * ((size_t)n_experts + 1)) +
	       list_align(4 * (size_t)n_rows * n_slots);
}

struct expert_list expert_list_at(void *mem, uint32_t n_rows, uint32_t n_slots, uint32_t n_experts)
{
	char *at = (char *)mem;
	struct expert_list list;

	(void)n_rows;
	(void)n_slots;
	list.n_active = (uint32_t *)at;
	at += 16;
	list.active = (uint32_t *)at;
	at += list_align(4 * (size_t)n_experts);
	list.offset = (uint32_t *)at;
	at += list_align(4 * ((size_t)n_experts + 1));
	list.pair = (uint32_t *)at;
	return list;
}

int expert_list_build(const uint32_t *ids, uint32_t n_rows, uint32_t n_slots, uint32_t n_experts,
		      const struct expert_list *list, void *stream)
{
	struct list_params p = { ids, n_rows * n_slots, n_experts, *list };

	if (!ids || !n_rows || n_rows > MATMUL_MAX_ROWS || !n_slots || n_slots > 16 || !n_experts ||
	    n_experts > MATMUL_MAX_EXPERTS)
		return -EINVAL;
	list_kernel<<<1, LIST_THREADS, 0, (cudaStream_t)stream>>>(p);
	return cuda_code(cudaGetLastError());
}

/* ---- the sum over slots ------------------------------------------------------ */

__global__ void __launch_bounds__(256)
	combine_kernel(const __grid_constant__ struct experts_combine_args a)
{
	const uint32_t i = blockIdx.x * 256 + threadIdx.x, r = blockIdx.y;
	const float *y = a.y + (size_t)r * a.n_slots * a.n + i;
	const float *weight = a.weight + r * a.n_slots;
	const size_t at = (size_t)r * a.n + i;
	float sum;

	if (i >= a.n)
		return;
	sum = __fmul_rn(weight[0], y[0]);
	for (uint32_t s = 1; s < a.n_slots; s++)
		sum = __fmaf_rn(weight[s], y[(size_t)s * a.n], sum);
	sum = __fadd_rn(__bfloat162float(((const __nv_bfloat16 *)a.residual)[at]), sum);
	((__nv_bfloat16 *)a.out)[at] = __float2bfloat16_rn(sum);
}

int experts_combine(const struct experts_combine_args *a, void *stream)
{
	if (!a->y || !a->weight || !a->residual || !a->out || !a->n_rows ||
	    a->n_rows > MATMUL_MAX_ROWS || !a->n_slots || a->n_slots > 16 || !a->n)
		return -EINVAL;
	combine_kernel<<<dim3((a->n + 255) / 256, a->n_rows), 256, 0, (cudaStream_t)stream>>>(*a);
	return cuda_code(cudaGetLastError());
}
