/* given_list.h - the list of a choice that is given, not made from logits: what route.cu makes on the
 * device, made by the host, for programs that run the experts' products on their own. */
#ifndef HEARTH_BENCH_CUDA_GIVEN_LIST_H
#define HEARTH_BENCH_CUDA_GIVEN_LIST_H

#include <cuda_runtime.h>

#include <vector>

#include "kernels/cuda/decode_matmul.h"

/* ids: [rows][n_slots], different within a row, those from n_experts on left out.  Fills `list`, laid
 * out for as many, and waits until it is there. */
static inline cudaError_t given_list(const std::vector<uint32_t> &ids, uint32_t n_experts,
				     const struct expert_list *list)
{
	std::vector<uint32_t> active, offset, pair;
	const auto put = [](uint32_t *to, const std::vector<uint32_t> &from) {
		return cudaMemcpy(to, from.data(), from.size() * 4, cudaMemcpyHostToDevice);
	};
	cudaError_t rc;

	for (uint32_t e = 0; e < n_experts; e++) {
		const size_t before = pair.size();

		for (uint32_t i = 0; i < ids.size(); i++)
			if (ids[i] == e)
				pair.push_back(i);
		if (pair.size() > before) {
			active.push_back(e);
			offset.push_back((uint32_t)before);
		}
	}
	offset.push_back((uint32_t)pair.size());
	if ((rc = put(list->n_active, { (uint32_t)active.size() })) ||
	    (rc = put(list->active, active)) || (rc = put(list->offset, offset)) ||
	    (rc = put(list->pair, pair)))
		return rc;
	return cudaDeviceSynchronize();
}

#endif
