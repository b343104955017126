/* expert_list.cu - where the list of who goes to which expert lies (route.cu makes it), and the sum
 * of what came back. */
#include "kernels/cuda/decode_matmul_int.cuh"

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

/* ---- the sum over slots ------------------------------------------------------ */

__global__ void __launch_bounds__(256)
	combine_kernel(const __grid_constant__ struct experts_combine_args a)
{
	const uint32_t i = blockIdx.x * 256 + threadIdx.x, r = blockIdx.y;
	const float *y = a.y + (size_t)r * a.n_slots * a.n + i;
	const float *weight = a.weight + r * a.n_slots;
	const size_t at = (size_t)r * a.n + i;
	float sum;

	chain_wait();
	chain_release();
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
	return chain_launch(combine_kernel, dim3((a->n + 255) / 256, a->n_rows), 256, 0, 1, (cudaStream_t)stream, *a);
}
