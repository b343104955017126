# How fast a checkpoint is loaded.
bin_hearth_bench_SOURCES += bench/load.c bench/load.h bench/raw_read.c bench/raw_read.h
