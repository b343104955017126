# What a router costs under load.
bin_hearth_bench_SOURCES += bench/router.c bench/router.h bench/http_load.c bench/http_load.h \
	bench/http_answer.c bench/http_answer.h bench/process.c bench/process.h
