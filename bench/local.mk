bin_PROGRAMS += bin/hearth-bench
bin_hearth_bench_SOURCES = bench/main.c bench/compare.c bench/compare.h
bin_hearth_bench_LDADD = $(engine_libs) $(lib_libs) -lm
# not in the condition: automake would drop AM_LDFLAGS, and hardening with it, from the other case
bin_hearth_bench_LDFLAGS = $(AM_LDFLAGS) $(cuda_backend_ldflags)
if CUDA
bin_hearth_bench_LDADD += $(cuda_backend_libs)
endif
include bench/load.mk
include bench/step.mk
include bench/exact.mk
include bench/router.mk
include bench/drafts.mk
