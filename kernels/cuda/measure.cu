/* measure.cu - kernels/measure.h on a GPU: a plain read kernel for the roof, the rest from
 * device.cu's counts. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "kernels/cuda/device_int.h"

#define READ_MOST ((size_t)8 << 30)
#define READ_LEAST ((size_t)512 << 20)	/* several times any L2 */
#define READ_ROUNDS 5

static_assert(CLASS_N <= MEASURE_MAX_CLASSES, "every class has a place");

namespace {

__global__ void read_kernel(const uint4 *p, size_t n, uint32_t *out)
{
	const size_t step = (size_t)gridDim.x * blockDim.x;
	uint32_t x = 0;

#pragma unroll 8
	for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
		const uint4 v = p[i];

		x ^= v.x ^ v.y ^ v.z ^ v.w;
	}
	if (x == 0x12345678u)	/* never, and the compiler cannot know */
		*out = x;
}

/* Seconds of one read of all `bytes`; negative: it failed. */
double read_once(const char *p, size_t bytes, int blocks, cudaEvent_t t0, cudaEvent_t t1)
{
	float ms = 0;

	cudaEventRecord(t0);
	read_kernel<<<blocks, 512>>>((const uint4 *)p, bytes / 16, (uint32_t *)p);
	cudaEventRecord(t1);
	if (cudaEventSynchronize(t1) != cudaSuccess ||
	    cudaEventElapsedTime(&ms, t0, t1) != cudaSuccess)
		return -1;
	return (double)ms / 1e3;
}

int read_rounds(char *p, size_t bytes, int blocks, double *ret)
{
	cudaEvent_t t0, t1;
	double best = 0;
	bool ok = cudaMemset(p, 1, bytes) == cudaSuccess && cudaEventCreate(&t0) == cudaSuccess;

	if (!ok)
		return -ENODEV;
	ok = cudaEventCreate(&t1) == cudaSuccess;
	for (int i = 0; ok && i < READ_ROUNDS; i++) {
		const double s = read_once(p, bytes, blocks, t0, t1);

		ok = s > 0;
		best = ok ? std::max(best, (double)bytes / s) : 0;
	}
	cudaEventDestroy(t0);
	if (ok)
		cudaEventDestroy(t1);
	*ret = best;
	return ok ? 0 : -ENODEV;
}

int read_roof(struct cuda_device *d, double *ret)
{
	size_t free = 0, total = 0, bytes;
	int rc, units = 0;
	char *p;

	if (cudaMemGetInfo(&free, &total) != cudaSuccess ||
	    cudaDeviceGetAttribute(&units, cudaDevAttrMultiProcessorCount, d->ordinal) !=
		    cudaSuccess)
		return -ENODEV;
	bytes = std::min(READ_MOST, free / 2) & ~(size_t)4095;
	if (bytes < READ_LEAST)
		return -ENOMEM;
	if (cudaMalloc(&p, bytes) != cudaSuccess) {
		cudaGetLastError();
		return -ENOMEM;
	}
	rc = read_rounds(p, bytes, units * 16, ret);
	cudaFree(p);
	return rc;
}

/* "580.159.04" out of the driver's own line. */
void driver_text(char *ret, size_t room)
{
	FILE *f = fopen("/proc/driver/nvidia/version", "re");
	char line[256], release[48] = "not known";
	int cuda = 0;

	if (f && fgets(line, sizeof(line), f))
		for (char *save = NULL, *word = strtok_r(line, " ", &save); word;
		     word = strtok_r(NULL, " ", &save))
			if (word[0] >= '0' && word[0] <= '9' && strchr(word, '.')) {
				snprintf(release, sizeof(release), "%s", word);
				break;
			}
	if (f)
		fclose(f);
	cudaDriverGetVersion(&cuda);
	snprintf(ret, room, "%s, CUDA %d.%d", release, cuda / 1000, cuda % 1000 / 10);
}

int describe(const struct cuda_device *d, struct device_measures *ret)
{
	size_t free = 0, total = 0;
	cudaDeviceProp prop;

	if (cudaGetDeviceProperties(&prop, d->ordinal) != cudaSuccess ||
	    cudaMemGetInfo(&free, &total) != cudaSuccess)
		return -ENODEV;
	snprintf(ret->device, sizeof(ret->device), "%.60s, %d multiprocessors", prop.name,
		 prop.multiProcessorCount);
	driver_text(ret->driver, sizeof(ret->driver));
	ret->free = free;
	ret->prompt_rows = prefill_rows_liked();
	return 0;
}

int steps(struct cuda_device *d, struct device_measures *ret)
{
	struct cuda_stats s;
	const int rc = cuda_device_stats(d, &s);

	if (rc)
		return rc;
	ret->experts_active = s.experts_active;
	ret->n_classes = CLASS_N;
	for (int c = 0; c < CLASS_N; c++)
		ret->classes[c] = { cuda_class_name[c], s.class_ms[c] };
	return 0;
}

} /* namespace */

int cuda_device_measure(struct cuda_device *d, enum measure what, struct device_measures *ret)
{
	if (d->lost || cudaSetDevice(d->ordinal) != cudaSuccess)
		return -ENODEV;
	switch (what) {
	case MEASURE_DEVICE:
		return describe(d, ret);
	case MEASURE_ROOF:
		return read_roof(d, &ret->read_roof);
	case MEASURE_READS:
		if (!d->loaded)
			return -EINVAL;
		cuda_device_weight_reads(d, &ret->step_bytes, &ret->expert_bytes);
		return 0;
	case MEASURE_STEPS:
		return d->loaded ? steps(d, ret) : -EINVAL;
	}
	return -ENOTSUP;
}
