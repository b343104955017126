bin_PROGRAMS += bin/hearth-bench
bin_hearth_bench_SOURCES = bench/main.c bench/step.c bench/step.h
bin_hearth_bench_LDADD = $(weights_libs) $(lib_libs)
include bench/router.mk
include bench/drafts.mk
