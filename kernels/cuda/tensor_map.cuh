/* tensor_map.cuh - what Hopper's copy engine is told of an array (CUDA driver API, "Tensor Map
 * Object Management"): of bfloat16, in boxes of 64 columns that are swizzled by 128 bytes. */
#ifndef HEARTH_KERNELS_CUDA_TENSOR_MAP_CUH
#define HEARTH_KERNELS_CUDA_TENSOR_MAP_CUH

#include <cuda.h>
#include <cuda_runtime.h>
#include <errno.h>

typedef CUresult encode_tiled(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
			      const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
			      const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
			      CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* The driver's encoder, found at run time: the tree does not link libcuda. */
static inline encode_tiled *tensor_map_encoder(void)
{
	static encode_tiled *found;
	cudaDriverEntryPointQueryResult result;
	void *p = NULL;

	if (!found &&
	    cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &p, 12000, cudaEnableDefault,
					     &result) == cudaSuccess &&
	    result == cudaDriverEntryPointSuccess)
		found = (encode_tiled *)p;
	return found;
}

/* n: axes, 1 .. 3.  dims: of each, the contiguous one first; strides: bytes, of the others,
 * multiples of 16; box: what one copy has of each.  at: device memory, 16-byte aligned, borrowed as
 * long as the map, a value without an owner, is used.  0; -EINVAL: the encoder refuses it;
 * -ENODEV: no driver that has one. */
static inline int tensor_map_make(CUtensorMap *ret, const void *at, uint32_t n,
				  const cuuint64_t *dims, const cuuint64_t *strides,
				  const cuuint32_t *box)
{
	const cuuint32_t step[3] = { 1, 1, 1 };
	encode_tiled *encode = tensor_map_encoder();

	if (!encode)
		return -ENODEV;
	return encode(ret, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, n, (void *)at, dims, strides, box,
		      step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
		      CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
		      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS ?
		       0 :
		       -EINVAL;
}

#endif
