# How often the MTP head guesses right, measured by the engine that serves.
noinst_PROGRAMS += bench/drafts
bench_drafts_SOURCES = bench/drafts.c
bench_drafts_LDADD = $(engine_libs) $(lib_libs)
