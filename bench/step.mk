# Prefill and decode speed of a device, with every condition.
bin_hearth_bench_SOURCES += bench/step.c bench/step.h bench/step_bytes.c bench/step_bytes.h \
	bench/step_cells.c bench/step_cells.h bench/step_conditions.c bench/step_conditions.h \
	bench/step_model.c bench/step_model.h bench/step_options.c bench/step_options.h \
	bench/step_report.c bench/step_report.h bench/step_run.c bench/step_run.h
# The commit that was built.  `make HEARTH_COMMIT=...` where there is no git; the file changes only when the commit does.
nodist_bin_hearth_bench_SOURCES = bench/commit.h
BUILT_SOURCES += bench/commit.h
CLEANFILES += bench/commit.h
bench/step_conditions.$(OBJEXT): bench/commit.h
.PHONY: commit-now
bench/commit.h: commit-now
	@$(MKDIR_P) bench; c="$(HEARTH_COMMIT)"; \
	test -n "$$c" || c=`git -C $(top_srcdir) describe --always --dirty --abbrev=12 2>/dev/null` || c=release; \
	echo "#define BENCH_COMMIT \"$$c\"" >$@.new; \
	if cmp -s $@.new $@; then rm -f $@.new; else mv $@.new $@; fi
