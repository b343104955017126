/* path_avx512.c - the hot loops for AVX-512 (F, DQ, BW, VL). */
#ifdef __x86_64__
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,prefer-vector-width=512")
#define PATH cpu_path_avx512
#define PATH_NAME "avx512"
#define MM_ROWS 8
#define MM_GROUPS 2
#define GEMM_ROWS 4
#define GEMM_VECS 4
#include "kernels/cpu/path_body.h"
#else
typedef int path_avx512_is_empty_here;
#endif
