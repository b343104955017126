/* fake_cudart.c - a CUDA runtime whose device is this process: memory is the heap, a kernel is run
 * by name.
 *
 * What kernels/cuda/loader.cu needs and no more, so that what it reads, in which order, and where
 * it puts it can be tested without a GPU (and under valgrind).  The prototypes are those that
 * nvcc's generated code calls.  The packing kernels are run as loops over pack_lane.h, which the
 * device compiles as well. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/pack_lane.h"

struct dim3 {
	unsigned x, y, z;
};

static struct {
	const void *host;
	const char *name;
} kernels[64];
static int n_kernels;
static struct dim3 pushed_grid, pushed_block;

void **__cudaRegisterFatBinary(void *fat);
void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaUnregisterFatBinary(void **handle);
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
			    int limit, void *tid, void *bid, void *bdim, void *gdim, int *warp);
unsigned __cudaPushCallConfiguration(struct dim3 grid, struct dim3 block, size_t shared,
				     void *stream);
int __cudaPopCallConfiguration(struct dim3 *grid, struct dim3 *block, size_t *shared, void *stream);
int __cudaGetKernel(const void **ret, const void *host);
int __cudaLaunchKernel(const void *kernel, struct dim3 grid, struct dim3 block, void **args,
		       size_t shared, void *stream);
int cudaMalloc(void **ret, size_t bytes);
int cudaMallocHost(void **ret, size_t bytes);
int cudaFree(void *p);
int cudaFreeHost(void *p);
int cudaMemcpy(void *to, const void *from, size_t bytes, int kind);
int cudaMemset(void *to, int value, size_t bytes);
int cudaDeviceSynchronize(void);
int cudaGetLastError(void);
const char *cudaGetErrorString(int code);

void **__cudaRegisterFatBinary(void *fat)
{
	static void *handle;

	(void)fat;
	return &handle;
}

void __cudaRegisterFatBinaryEnd(void **handle)
{
	(void)handle;
}

void __cudaUnregisterFatBinary(void **handle)
{
	(void)handle;
}

void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name,
			    int limit, void *tid, void *bid, void *bdim, void *gdim, int *warp)
{
	(void)handle, (void)device, (void)limit, (void)tid, (void)bid, (void)bdim, (void)gdim,
		(void)warp;
	if (n_kernels < 64) {
		kernels[n_kernels].host = host;
		kernels[n_kernels++].name = name;
	}
}

unsigned __cudaPushCallConfiguration(struct dim3 grid, struct dim3 block, size_t shared,
				     void *stream)
{
	(void)shared, (void)stream;
	pushed_grid = grid;
	pushed_block = block;
	return 0;
}

int __cudaPopCallConfiguration(struct dim3 *grid, struct dim3 *block, size_t *shared, void *stream)
{
	*grid = pushed_grid;
	*block = pushed_block;
	*shared = 0;
	*(void **)stream = NULL;
	return 0;
}

int __cudaGetKernel(const void **ret, const void *host)
{
	*ret = host;
	return 0;
}

/* ---- kernels ----------------------------------------------------------------------- */

struct unit_place {
	size_t unit;
	uint32_t step, lane, slices;
	struct pack_place at;
};

static struct unit_place unit_place(size_t i, uint32_t slices)
{
	struct unit_place u = {
		i / 512, (uint32_t)(i / 32 % 16), (uint32_t)(i % 32), slices, { { 0 }, { 0 } }
	};

	u.at = pack_place_of((uint32_t)(u.unit / slices), (uint32_t)(u.unit % slices), u.step,
			     u.lane);
	return u;
}

static void run_bf16(void **a)
{
	const struct pack_rows *m = a[0];

	for (size_t i = 0; i < *(size_t *)a[3]; i++) {
		const struct unit_place u = unit_place(i, *(uint32_t *)a[1]);
		uint32_t v[4];

		pack_bf16_lane(m, &u.at, v);
		memcpy(*(char **)a[2] + u.unit * MATMUL_BF16_UNIT + (u.step * 32 + u.lane) * 16, v,
		       16);
	}
}

static void run_fp8(void **a)
{
	const struct pack_rows *m = a[0];

	for (size_t i = 0; i < *(size_t *)a[4]; i++) {
		const struct unit_place u = unit_place(i, *(uint32_t *)a[2]);
		const float *s = *(float **)a[1] + u.unit * 4;
		const float scale[2] = { s[u.step / 8], s[2 + u.step / 8] };
		char *to = *(char **)a[3] + u.unit * MATMUL_FP8_UNIT;
		uint32_t v[2];

		if (pack_fp8_lane(m, &u.at, scale, v) && **(uint32_t **)a[5] > *(uint32_t *)a[6])
			**(uint32_t **)a[5] = *(uint32_t *)a[6];
		memcpy(to + (u.step / 2 * 32 + u.lane) * 16 + u.step % 2 * 8, v, 8);
		for (int j = 0; !u.step && !u.lane && j < 4; j++) {
			const float kept = pack_fp8_scale(s[j]);

			memcpy(to + 4096 + 4 * j, &kept, 4);
		}
	}
}

static void run_nvfp4(void **a)
{
	const struct pack_rows *m = a[0];
	const uint8_t *scales = *(uint8_t **)a[1];

	for (size_t i = 0; i < *(size_t *)a[4]; i++) {
		const struct unit_place u = unit_place(i, *(uint32_t *)a[2]);
		const uint32_t v = pack_nvfp4_lane(m, scales, &u.at), n = u.step * 32 + u.lane;
		uint8_t *to = *(uint8_t **)a[3] + u.unit * MATMUL_NVFP4_UNIT;
		uint8_t s;

		memcpy(to + (u.step / 4 * 32 + u.lane) * 16 + u.step % 4 * 4, &v, 4);
		if (n >= 256)
			continue;
		s = pack_nvfp4_unit_scale(m, scales, (uint32_t)(u.unit / u.slices),
					  (uint32_t)(u.unit % u.slices), n);
		if (pack_e4m3_nan(s) && **(uint32_t **)a[5] > *(uint32_t *)a[6])
			**(uint32_t **)a[5] = *(uint32_t *)a[6];
		to[2048 + n] = pack_scale_code(s);
	}
}

int __cudaLaunchKernel(const void *kernel, struct dim3 grid, struct dim3 block, void **args,
		       size_t shared, void *stream)
{
	const char *name = "?";

	(void)grid, (void)block, (void)shared, (void)stream;
	for (int i = 0; i < n_kernels; i++)
		if (kernels[i].host == kernel)
			name = kernels[i].name;
	if (strstr(name, "pack_bf16_kernel"))
		run_bf16(args);
	else if (strstr(name, "pack_fp8_kernel"))
		run_fp8(args);
	else if (strstr(name, "pack_nvfp4_kernel"))
		run_nvfp4(args);
	else
		return 1;
	return 0;
}

/* ---- memory --------------------------------------------------------------------------- */

int cudaMalloc(void **ret, size_t bytes)
{
	*ret = malloc(bytes);
	if (*ret)
		memset(*ret, 0xa5, bytes);
	return *ret ? 0 : 2;
}

int cudaMallocHost(void **ret, size_t bytes)
{
	return posix_memalign(ret, 4096, bytes) ? 2 : 0;
}

int cudaFree(void *p)
{
	free(p);
	return 0;
}

int cudaFreeHost(void *p)
{
	free(p);
	return 0;
}

int cudaMemcpy(void *to, const void *from, size_t bytes, int kind)
{
	(void)kind;
	memcpy(to, from, bytes);
	return 0;
}

int cudaMemset(void *to, int value, size_t bytes)
{
	memset(to, value, bytes);
	return 0;
}

int cudaDeviceSynchronize(void)
{
	return 0;
}

int cudaGetLastError(void)
{
	return 0;
}

const char *cudaGetErrorString(int code)
{
	return code == 2 ? "out of memory" : code ? "no such kernel here" : "no error";
}
