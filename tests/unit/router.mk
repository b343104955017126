if HAVE_CMOCKA
if SERVING
router_unit_cppflags = $(librouter_a_CPPFLAGS)
check_PROGRAMS += tests/unit/conf_test tests/unit/route_test tests/unit/http_test \
	tests/unit/openai_test tests/unit/cloud_test
TESTS += tests/unit/conf_test tests/unit/route_test tests/unit/http_test \
	tests/unit/openai_test tests/unit/cloud_test
tests_unit_conf_test_SOURCES = tests/unit/conf_test.c tests/unit/unit.h
tests_unit_conf_test_CFLAGS = $(unit_cflags)
tests_unit_conf_test_LDADD = $(unit_libs)
tests_unit_route_test_SOURCES = tests/unit/route_test.c tests/unit/unit.h
tests_unit_route_test_CFLAGS = $(unit_cflags)
tests_unit_route_test_LDADD = librouter.a $(unit_libs)
tests_unit_http_test_SOURCES = tests/unit/http_test.c tests/unit/unit.h
tests_unit_http_test_CFLAGS = $(unit_cflags)
tests_unit_http_test_CPPFLAGS = $(router_unit_cppflags)
tests_unit_http_test_LDADD = $(router_libs) $(CMOCKA_LIBS)
tests_unit_openai_test_SOURCES = tests/unit/openai_test.c tests/unit/unit.h
tests_unit_openai_test_CFLAGS = $(unit_cflags)
tests_unit_openai_test_CPPFLAGS = $(router_unit_cppflags)
tests_unit_openai_test_LDADD = $(router_libs) $(CMOCKA_LIBS)
tests_unit_cloud_test_SOURCES = tests/unit/cloud_test.c tests/unit/unit.h
tests_unit_cloud_test_CFLAGS = $(unit_cflags)
tests_unit_cloud_test_CPPFLAGS = $(router_unit_cppflags)
tests_unit_cloud_test_LDADD = $(router_libs) $(CMOCKA_LIBS)
endif
endif
