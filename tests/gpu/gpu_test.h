/* gpu_test.h - what every GPU test begins with: claims printed as cmocka prints them (so that
 * tests/summary.sh counts them), device arrays with a host copy and guard bytes, errors, timing. */
#ifndef HEARTH_TESTS_GPU_TEST_H
#define HEARTH_TESTS_GPU_TEST_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define CUDA(call)                                                                         \
	do {                                                                               \
		cudaError_t e_ = (call);                                                   \
		if (e_ != cudaSuccess) {                                                   \
			fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(e_));        \
			exit(1);                                                           \
		}                                                                          \
	} while (0)

static int n_failed;

static inline void claim(const char *name, bool ok)
{
	printf("[ RUN      ] %s\n%s %s\n", name, ok ? "[       OK ]" : "[  FAILED  ]", name);
	n_failed += !ok;
}

/* Whether the first argument is `option`. */
static inline bool asked(int argc, char **argv, const char *option)
{
	return argc > 1 && !strcmp(argv[1], option);
}

static inline bool have_gpu(void)
{
	int n = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);	/* of a test that is killed, what it had to say */
	if (cudaGetDeviceCount(&n) == cudaSuccess && n > 0)
		return true;
	printf("no GPU\n");
	return false;
}

static uint32_t rng_state = 1;
static inline uint32_t rng(void)
{
	rng_state = rng_state * 1664525u + 1013904223u;
	return rng_state >> 8;
}

static inline float uniform(void)	/* [-1, 1) */
{
	return (float)rng() / 8388608.0f - 1;
}

static inline float to_bf16(float x)
{
	return __bfloat162float(__float2bfloat16_rn(x));
}

/* One device array with its host copy; guarded() says whether anything wrote behind it. */
template <typename T> struct array {
	static constexpr size_t GUARD = 256;
	std::vector<T> h;
	T *d = nullptr;

	explicit array(size_t n) : h(n)
	{
		CUDA(cudaMalloc(&d, n * sizeof(T) + GUARD));
		CUDA(cudaMemset((char *)d + n * sizeof(T), 0xa5, GUARD));
	}
	array(const array &) = delete;
	~array() { cudaFree(d); }
	void up() { CUDA(cudaMemcpy(d, h.data(), h.size() * sizeof(T), cudaMemcpyHostToDevice)); }
	void down() { CUDA(cudaMemcpy(h.data(), d, h.size() * sizeof(T), cudaMemcpyDeviceToHost)); }
	bool guarded() const
	{
		unsigned char g[GUARD];

		CUDA(cudaMemcpy(g, (char *)d + h.size() * sizeof(T), GUARD, cudaMemcpyDeviceToHost));
		return std::all_of(g, g + GUARD, [](unsigned char c) { return c == 0xa5; });
	}
	void fill_bf16(void)
	{
		for (auto &x : h)
			x = __float2bfloat16_rn(uniform());
		up();
	}
};

static inline double relative_error(const std::vector<double> &ref, const float *got)
{
	double num = 0, den = 0;

	for (size_t i = 0; i < ref.size(); i++) {
		double d = ref[i] - got[i];

		if (!std::isfinite(got[i]))
			return INFINITY;
		num += d * d;
		den += ref[i] * ref[i];
	}
	return std::sqrt(num / den);
}

/* Milliseconds of `work`, median of `times` replays of a graph of it. */
template <typename F> static double graph_ms(int times, F work)
{
	std::vector<float> ms((size_t)times);
	cudaGraphExec_t exec;
	cudaGraph_t graph;
	cudaEvent_t t0, t1;
	cudaStream_t s;

	CUDA(cudaStreamCreate(&s));
	CUDA(cudaEventCreate(&t0));
	CUDA(cudaEventCreate(&t1));
	CUDA(cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal));
	work(s);
	CUDA(cudaStreamEndCapture(s, &graph));
	CUDA(cudaGraphInstantiate(&exec, graph, 0));
	CUDA(cudaGraphLaunch(exec, s));
	for (auto &x : ms) {
		CUDA(cudaEventRecord(t0, s));
		CUDA(cudaGraphLaunch(exec, s));
		CUDA(cudaEventRecord(t1, s));
		CUDA(cudaEventSynchronize(t1));
		CUDA(cudaEventElapsedTime(&x, t0, t1));
	}
	std::sort(ms.begin(), ms.end());
	cudaGraphExecDestroy(exec);
	cudaGraphDestroy(graph);
	cudaStreamDestroy(s);
	return ms[ms.size() / 2];
}

/* TB/s of a copy of 4 GiB, read and written bytes counted, and a line about the machine. */
static inline double copy_roof(void)
{
	const size_t bytes = (size_t)4 << 30;
	cudaDeviceProp prop;
	cudaEvent_t t0, t1;
	double best = 0;
	int driver;
	float ms;
	char *p;

	CUDA(cudaGetDeviceProperties(&prop, 0));
	CUDA(cudaDriverGetVersion(&driver));
	CUDA(cudaMalloc(&p, 2 * bytes));
	CUDA(cudaMemset(p, 1, 2 * bytes));
	CUDA(cudaEventCreate(&t0));
	CUDA(cudaEventCreate(&t1));
	/* not in a graph: a copy node there reached 2.7 TB/s on an H200, this call 4.3 */
	for (int i = 0; i < 5; i++) {
		CUDA(cudaEventRecord(t0));
		CUDA(cudaMemcpyAsync(p, p + bytes, bytes, cudaMemcpyDeviceToDevice));
		CUDA(cudaEventRecord(t1));
		CUDA(cudaEventSynchronize(t1));
		CUDA(cudaEventElapsedTime(&ms, t0, t1));
		best = std::max(best, 2.0 * (double)bytes / 1e9 / ms);
	}
	cudaFree(p);
	printf("\nGPU %s, CUDA driver %d, copy %.2f TB/s\n\n", prop.name, driver, best);
	return best;
}

#endif
