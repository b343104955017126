# The same bits whoever else is served, and minutes of random serving: through the engine's scheduler.
bin_hearth_bench_SOURCES += bench/exact.c bench/exact.h bench/exact_book.c bench/exact_book.h \
	bench/exact_crowd.c bench/exact_crowd.h bench/number.c bench/number.h \
	bench/random_request.c bench/random_request.h \
	bench/target.c bench/target.h bench/soak.c bench/soak.h bench/soak_run.c bench/soak_run.h
