/* replay.cuh - what the benches of the decode matrices share: a graph of launches replayed and
 * timed, and a plain read to compare with. */
#ifndef HEARTH_BENCH_CUDA_REPLAY_CUH
#define HEARTH_BENCH_CUDA_REPLAY_CUH

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "kernels/cuda/decode_matmul_int.cuh"

#define CUDA(call)                                                                                 \
	do {                                                                                       \
		cudaError_t e_ = (call);                                                           \
		if (e_ != cudaSuccess) {                                                           \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__,                         \
				cudaGetErrorString(e_));                                           \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static cudaStream_t stream;
static uint32_t *read_sink;	/* device memory, never written */

/* Seconds of one of `n` launches, the median of nine replays; launch(i) enqueues the i-th.  NAN when
 * it refuses. */
static double time_launches(int n, const std::function<int(int)> &launch)
{
	const int replays = 9;
	std::vector<float> ms;
	cudaGraph_t graph;
	cudaGraphExec_t exec;
	cudaEvent_t from, to;
	int r = 0;

	CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
	for (int i = 0; i < n && !r; i++)
		r = launch(i);
	CUDA(cudaStreamEndCapture(stream, &graph));
	if (r) {
		CUDA(cudaGraphDestroy(graph));
		return NAN;
	}
	CUDA(cudaGraphInstantiate(&exec, graph, 0));
	CUDA(cudaEventCreate(&from));
	CUDA(cudaEventCreate(&to));
	for (int i = 0; i < replays + 2; i++) {
		float t;

		CUDA(cudaEventRecord(from, stream));
		CUDA(cudaGraphLaunch(exec, stream));
		CUDA(cudaEventRecord(to, stream));
		CUDA(cudaEventSynchronize(to));
		CUDA(cudaEventElapsedTime(&t, from, to));
		if (i >= 2)
			ms.push_back(t);
	}
	std::sort(ms.begin(), ms.end());
	CUDA(cudaEventDestroy(from));
	CUDA(cudaEventDestroy(to));
	CUDA(cudaGraphExecDestroy(exec));
	CUDA(cudaGraphDestroy(graph));
	return ms[replays / 2] / 1e3 / n;
}

/* 8 loads of 16 bytes a thread in flight; blocks walk the buffer side by side. */
__global__ void __launch_bounds__(512) read_kernel(const uint4 *p, size_t n, uint32_t *sink)
{
	const size_t step = (size_t)gridDim.x * 512 * 8;
	uint32_t x = 0;

	for (size_t at = (size_t)blockIdx.x * 512 * 8 + threadIdx.x; at < n; at += step) {
		uint4 v[8];

#pragma unroll
		for (int i = 0; i < 8; i++)
			v[i] = at + i * 512 < n ? load_weights<true>(p + at + i * 512)
						: make_uint4(0, 0, 0, 0);
#pragma unroll
		for (int i = 0; i < 8; i++)
			x ^= v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
	}
	if (x == 0x12345678)
		*sink = x;
}

static int read_launch(const char *p, size_t bytes, int per_sm)
{
	size_t blocks = (bytes / 16 + 4095) / 4096;

	blocks = std::min(blocks, (size_t)device_sms() * per_sm);
	read_kernel<<<(unsigned)blocks, 512, 0, stream>>>((const uint4 *)p, bytes / 16, read_sink);
	return 0;
}

/* Bytes a second of a read of so many, as fast as any number of blocks does it. */
static double read_roof(const char *p, size_t bytes)
{
	double best = 1e9;

	for (int per_sm : { 2, 4, 8, 16 })
		best = std::min(best, time_launches(1, [&](int) {
					return read_launch(p, bytes, per_sm);
				}));
	return bytes / best;
}

#endif
