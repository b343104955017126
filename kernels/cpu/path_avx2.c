/* path_avx2.c - the hot loops for AVX2 without FMA. */
#ifdef __x86_64__
#pragma GCC target("avx2,no-fma")
#define PATH cpu_path_avx2
#define PATH_NAME "avx2"
#define MM_ROWS 4
#define MM_GROUPS 1
#define GEMM_ROWS 2
#define GEMM_VECS 2
#include "kernels/cpu/path_body.h"
#else
typedef int path_avx2_is_empty_here;
#endif
