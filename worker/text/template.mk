# The chat template: its part of libtext.a, its tests and tools.
libtext_a_SOURCES += worker/text/span.h
libtext_a_SOURCES += worker/text/template.c worker/text/template.h
libtext_a_SOURCES += worker/text/request.c worker/text/request.h
libtext_a_SOURCES += worker/text/jinja/args.c
libtext_a_SOURCES += worker/text/jinja/arena.c worker/text/jinja/arena.h
libtext_a_SOURCES += worker/text/jinja/case_table.h
libtext_a_SOURCES += worker/text/jinja/chars.c worker/text/jinja/chars.h
libtext_a_SOURCES += worker/text/jinja/eval.c
libtext_a_SOURCES += worker/text/jinja/exec.c worker/text/jinja/exec.h worker/text/jinja/loop.c \
	worker/text/jinja/loop.h
libtext_a_SOURCES += worker/text/jinja/filter.h
libtext_a_SOURCES += worker/text/jinja/filter_seq.c worker/text/jinja/filter_text.c
libtext_a_SOURCES += worker/text/jinja/format.c
libtext_a_SOURCES += worker/text/jinja/frame.c
libtext_a_SOURCES += worker/text/jinja/global.c
libtext_a_SOURCES += worker/text/jinja/iterate.c
libtext_a_SOURCES += worker/text/jinja/jinja.c worker/text/jinja/jinja.h
libtext_a_SOURCES += worker/text/jinja/json.c
libtext_a_SOURCES += worker/text/jinja/lex.c worker/text/jinja/lex.h
libtext_a_SOURCES += worker/text/jinja/macro.c
libtext_a_SOURCES += worker/text/jinja/method.c worker/text/jinja/method.h
libtext_a_SOURCES += worker/text/jinja/method_str.c
libtext_a_SOURCES += worker/text/jinja/node.h
libtext_a_SOURCES += worker/text/jinja/number.c
libtext_a_SOURCES += worker/text/jinja/parse.c worker/text/jinja/parse.h
libtext_a_SOURCES += worker/text/jinja/parse_expr.c worker/text/jinja/parse_token.c
libtext_a_SOURCES += worker/text/jinja/print.c
libtext_a_SOURCES += worker/text/jinja/run.h
libtext_a_SOURCES += worker/text/jinja/str.c worker/text/jinja/str.h
libtext_a_SOURCES += worker/text/jinja/test.c
libtext_a_SOURCES += worker/text/jinja/value.c worker/text/jinja/value.h
dist_noinst_SCRIPTS += tools/unicode/make_case_table.py
EXTRA_DIST += worker/text/jinja/README.md

# tests/tools/template_driver: JSON lines in and out
check_PROGRAMS += tests/tools/template_driver
tests_tools_template_driver_SOURCES = tests/tools/template_driver.c
tests_tools_template_driver_LDADD = libtext.a $(lib_libs)

TESTS += tests/golden/template.sh
dist_check_SCRIPTS += tests/golden/template.sh
dist_noinst_SCRIPTS += tests/golden/compare_template.py
dist_noinst_DATA += \
	tests/golden/templates/bracket_style.jinja tests/golden/templates/context.json \
	tests/golden/templates/filters.lines tests/golden/templates/header_style.jinja \
	tests/golden/templates/methods.lines tests/golden/templates/operators.lines \
	tests/golden/templates/sequences.lines tests/golden/templates/statements.lines \
	tests/golden/templates/tests.lines tests/golden/templates/turn_style.jinja

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/template_test tests/unit/request_test
TESTS += tests/unit/template_test tests/unit/request_test
tests_unit_template_test_SOURCES = tests/unit/template_test.c tests/unit/unit.h
tests_unit_template_test_CFLAGS = $(unit_cflags)
tests_unit_template_test_LDADD = libtext.a $(unit_libs)
tests_unit_request_test_SOURCES = tests/unit/request_test.c tests/unit/unit.h
tests_unit_request_test_CFLAGS = $(unit_cflags)
tests_unit_request_test_LDADD = libtext.a $(unit_libs)
endif
