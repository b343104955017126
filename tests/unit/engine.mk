# The engine's tests; what would compute is tests/fake/, linked in its place.
check_LIBRARIES += libfake.a
libfake_a_SOURCES = tests/fake/device.c tests/fake/device.h

if HAVE_CMOCKA
engine_tests = tests/unit/kv_pool_test tests/unit/seq_test tests/unit/sched_test tests/unit/chunk_test \
	tests/unit/engine_test tests/unit/stop_match_test tests/unit/generation_test \
	tests/unit/gen_config_test tests/unit/prompt_test
check_PROGRAMS += $(engine_tests)
TESTS += $(engine_tests)
# the fake device first: what it defines is not looked for in the real back ends
engine_test_libs = libengine.a libfake.a $(engine_libs) $(unit_libs)

tests_unit_kv_pool_test_SOURCES = tests/unit/kv_pool_test.c tests/unit/unit.h
tests_unit_kv_pool_test_CFLAGS = $(unit_cflags)
tests_unit_kv_pool_test_LDADD = $(engine_test_libs)
tests_unit_seq_test_SOURCES = tests/unit/seq_test.c tests/unit/unit.h
tests_unit_seq_test_CFLAGS = $(unit_cflags)
tests_unit_seq_test_LDADD = $(engine_test_libs)
tests_unit_chunk_test_SOURCES = tests/unit/chunk_test.c tests/unit/unit.h
tests_unit_chunk_test_CFLAGS = $(unit_cflags)
tests_unit_chunk_test_LDADD = $(engine_test_libs)

tests_unit_sched_test_SOURCES = tests/unit/sched_test.c tests/unit/unit.h
tests_unit_sched_test_CFLAGS = $(unit_cflags)
tests_unit_sched_test_LDADD = $(engine_test_libs)
tests_unit_engine_test_SOURCES = tests/unit/engine_test.c tests/unit/unit.h
tests_unit_engine_test_CFLAGS = $(unit_cflags)
tests_unit_engine_test_LDADD = $(engine_test_libs)
tests_unit_stop_match_test_SOURCES = tests/unit/stop_match_test.c tests/unit/unit.h
tests_unit_stop_match_test_CFLAGS = $(unit_cflags)
tests_unit_stop_match_test_LDADD = $(engine_test_libs)
tests_unit_gen_config_test_SOURCES = tests/unit/gen_config_test.c tests/unit/unit.h
tests_unit_gen_config_test_CFLAGS = $(unit_cflags)
tests_unit_gen_config_test_LDADD = $(engine_test_libs)
tests_unit_generation_test_SOURCES = tests/unit/generation_test.c tests/unit/unit.h
tests_unit_generation_test_CFLAGS = $(unit_cflags)
tests_unit_generation_test_LDADD = $(engine_test_libs)
tests_unit_prompt_test_SOURCES = tests/unit/prompt_test.c tests/unit/unit.h
tests_unit_prompt_test_CFLAGS = $(unit_cflags)
tests_unit_prompt_test_LDADD = $(engine_test_libs)

# The CPU back end in place of the fake one.
check_PROGRAMS += tests/unit/exact_test
TESTS += tests/unit/exact_test
tests_unit_exact_test_SOURCES = tests/unit/exact_test.c tests/unit/unit.h \
	tests/fake/random_model.c tests/fake/random_model.h
tests_unit_exact_test_CFLAGS = $(unit_cflags)
tests_unit_exact_test_LDADD = $(engine_libs) $(unit_libs)

if SERVING
check_PROGRAMS += tests/unit/serve_test
TESTS += tests/unit/serve_test
tests_unit_serve_test_SOURCES = tests/unit/serve_test.c tests/unit/unit.h
tests_unit_serve_test_CFLAGS = $(unit_cflags)
tests_unit_serve_test_LDADD = libserve.a libengine.a libfake.a $(serve_libs) $(unit_libs)

check_PROGRAMS += tests/unit/serve_args_test
TESTS += tests/unit/serve_args_test
tests_unit_serve_args_test_SOURCES = tests/unit/serve_args_test.c tests/unit/unit.h
tests_unit_serve_args_test_CFLAGS = $(unit_cflags)
tests_unit_serve_args_test_LDADD = $(serve_libs) $(unit_libs)
endif
endif

# A worker that computes nothing, for the tests of what stands in front of one.
if SERVING
check_PROGRAMS += tests/tools/fake_worker
tests_tools_fake_worker_SOURCES = tests/tools/fake_worker.c
tests_tools_fake_worker_LDADD = libserve.a libengine.a libfake.a $(serve_libs) $(lib_libs)
endif

if SERVING
TESTS += tests/box/worker_start.sh
dist_check_SCRIPTS += tests/box/worker_start.sh
tests/box/worker_start.log: bin/hearth-worker
endif
