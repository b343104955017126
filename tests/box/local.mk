# Real processes on loopback.  The scripts skip (77) when their Python lacks what they need.
if SERVING
check_PROGRAMS += tests/box/mock_worker
tests_box_mock_worker_SOURCES = tests/box/mock_worker.c
tests_box_mock_worker_CPPFLAGS = $(AM_CPPFLAGS) $(PROTOBUF_C_CFLAGS)
tests_box_mock_worker_LDADD = $(wire_libs) $(lib_libs)
TESTS += tests/box/router_http.py tests/box/router_faults.py tests/box/router_openai.py \
	tests/box/router_ctl.py tests/box/real_worker.py
tests/box/router_http.log tests/box/router_faults.log tests/box/router_openai.log \
	tests/box/router_ctl.log tests/box/real_worker.log: bin/hearth-worker bin/hearthctl \
	bin/hearth-router tests/box/mock_worker
endif
PY_LOG_COMPILER = $${HEARTH_PYTHON:-python3}
EXTRA_DIST += tests/box/box.py tests/box/tsan.supp tests/box/router_http.py tests/box/router_faults.py \
	tests/box/router_openai.py tests/box/router_ctl.py tests/box/real_worker.py tests/box/router_speed.py
