# Real processes on loopback.  The scripts skip (77) when their Python lacks what they need.
if SERVING
check_PROGRAMS += tests/box/mock_worker
tests_box_mock_worker_SOURCES = tests/box/mock_worker.c
tests_box_mock_worker_CPPFLAGS = $(AM_CPPFLAGS) $(PROTOBUF_C_CFLAGS)
tests_box_mock_worker_LDADD = $(wire_libs) $(lib_libs)
TESTS += tests/box/router_dialect.py tests/box/router_http.py tests/box/router_faults.py tests/box/router_openai.py \
	tests/box/router_ctl.py tests/box/real_worker.py tests/box/same_answer.py
tests/box/router_dialect.log tests/box/router_http.log tests/box/router_faults.log tests/box/router_openai.log \
	tests/box/router_ctl.log tests/box/real_worker.log tests/box/same_answer.log: bin/hearth-worker bin/hearthctl \
	bin/hearth-router tests/box/mock_worker
endif
# What has threads, or talks to what has: for a build with --enable-sanitizers=thread.  Reports of
# children that are killed on purpose go nowhere else, so they are files, and one fails the target.
thread_tests = tests/unit/serve_test tests/unit/step_test tests/box/router_http.py \
	tests/box/router_faults.py tests/box/router_openai.py tests/box/router_dialect.py tests/box/real_worker.py tests/box/same_answer.py
check-threads:
	rm -f tests/tsan-report.*
	@status=0; $(MAKE) $(AM_MAKEFLAGS) check TESTS='$(thread_tests)' || status=1; \
	if ls tests/tsan-report.* >/dev/null 2>&1; then cat tests/tsan-report.*; status=1; fi; \
	exit $$status
.PHONY: check-threads
PY_LOG_COMPILER = $${HEARTH_PYTHON:-python3}
EXTRA_DIST += tests/box/router_dialect.py tests/box/box.py tests/box/rack.py tests/box/same_answer.py tests/box/router_http.py tests/box/router_faults.py \
	tests/box/router_openai.py tests/box/router_ctl.py tests/box/real_worker.py tests/box/router_speed.py
