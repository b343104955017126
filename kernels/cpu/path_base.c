/* path_base.c - the hot loops for whatever the compiler's baseline is (SSE2, NEON). */
#define PATH cpu_path_base
#define PATH_NAME "base"
#define MM_ROWS 2
#define MM_GROUPS 1
#define GEMM_ROWS 2
#define GEMM_VECS 1
#include "kernels/cpu/path_body.h"
