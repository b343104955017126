/* path.c - which instruction set the hot loops run on: see path.h. */
#include "kernels/cpu/path.h"

#include <string.h>

const struct cpu_path *cpu_path_best(void)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
	    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
		return &cpu_path_avx512;
	if (__builtin_cpu_supports("avx2"))
		return &cpu_path_avx2;
#endif
	return &cpu_path_base;
}

const struct cpu_path *cpu_path_named(const char *name)
{
#ifdef __x86_64__
	const struct cpu_path *best = cpu_path_best();

	if (strcmp(name, "avx512") == 0)
		return best == &cpu_path_avx512 ? best : NULL;
	if (strcmp(name, "avx2") == 0)
		return best != &cpu_path_base ? &cpu_path_avx2 : NULL;
#endif
	return strcmp(name, "base") == 0 ? &cpu_path_base : NULL;
}
