# The chat template: its part of libtext.a, its tests and tools.
libtext_a_SOURCES += worker/text/span.h
libtext_a_SOURCES += worker/text/template.c worker/text/template.h
libtext_a_SOURCES += worker/text/request.c worker/text/request.h
libtext_a_SOURCES += worker/text/jinja/args.c
libtext_a_SOURCES += worker/text/jinja/arena.c worker/text/jinja/arena.h
libtext_a_SOURCES += worker/text/jinja/case_table.h
libtext_a_SOURCES += worker/text/jinja/chars.c worker/text/jinja/chars.h
libtext_a_SOURCES += worker/text/jinja/eval.c
libtext_a_SOURCES += worker/text/jinja/exec.c worker/text/jinja/loop.h
libtext_a_SOURCES += worker/text/jinja/filter.h
libtext_a_SOURCES += worker/text/jinja/filter_seq.c worker/text/jinja/filter_text.c
libtext_a_SOURCES += worker/text/jinja/format.c
libtext_a_SOURCES += worker/text/jinja/global.c
libtext_a_SOURCES += worker/text/jinja/iterate.c
libtext_a_SOURCES += worker/text/jinja/jinja.c worker/text/jinja/jinja.h
libtext_a_SOURCES += worker/text/jinja/json.c
libtext_a_SOURCES += worker/text/jinja/lex.c worker/text/jinja/lex.h
libtext_a_SOURCES += worker/text/jinja/method.c
libtext_a_SOURCES += worker/text/jinja/node.h
libtext_a_SOURCES += worker/text/jinja/number.c
libtext_a_SOURCES += worker/text/jinja/parse.c worker/text/jinja/parse.h
libtext_a_SOURCES += worker/text/jinja/parse_expr.c
libtext_a_SOURCES += worker/text/jinja/print.c
libtext_a_SOURCES += worker/text/jinja/run.h
libtext_a_SOURCES += worker/text/jinja/str.c worker/text/jinja/str.h
libtext_a_SOURCES += worker/text/jinja/test.c
libtext_a_SOURCES += worker/text/jinja/value.c worker/text/jinja/value.h
dist_noinst_SCRIPTS += tools/unicode/make_case_table.py

# tests/tools/template_driver: JSON lines in and out
check_PROGRAMS += tests/tools/template_driver
tests_tools_template_driver_SOURCES = tests/tools/template_driver.c
tests_tools_template_driver_LDADD = libtext.a $(lib_libs)
