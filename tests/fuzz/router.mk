if FUZZERS
if SERVING
noinst_PROGRAMS += tests/fuzz/conf_fuzz
tests_fuzz_conf_fuzz_SOURCES = tests/fuzz/conf_fuzz.c
tests_fuzz_conf_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_conf_fuzz_LDADD = $(lib_libs)

noinst_PROGRAMS += tests/fuzz/http_fuzz
tests_fuzz_http_fuzz_SOURCES = tests/fuzz/http_fuzz.c
tests_fuzz_http_fuzz_CPPFLAGS = $(librouter_a_CPPFLAGS)
tests_fuzz_http_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_http_fuzz_LDADD = $(router_libs)

noinst_PROGRAMS += tests/fuzz/openai_request_fuzz
tests_fuzz_openai_request_fuzz_SOURCES = tests/fuzz/openai_request_fuzz.c
tests_fuzz_openai_request_fuzz_CPPFLAGS = $(librouter_a_CPPFLAGS)
tests_fuzz_openai_request_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_openai_request_fuzz_LDADD = $(router_libs)

noinst_PROGRAMS += tests/fuzz/cloud_fuzz
tests_fuzz_cloud_fuzz_SOURCES = tests/fuzz/cloud_fuzz.c
tests_fuzz_cloud_fuzz_CPPFLAGS = $(librouter_a_CPPFLAGS)
tests_fuzz_cloud_fuzz_CFLAGS = $(fuzz_flags)
tests_fuzz_cloud_fuzz_LDADD = $(router_libs)
endif
endif
