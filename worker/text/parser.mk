# The output parsers and hearth-worker text: their part of libtext.a, their tests.
libtext_a_SOURCES += \
	worker/text/call_args.c worker/text/call_args.h \
	worker/text/call_open.c worker/text/call_open.h \
	worker/text/call_quote.c worker/text/call_quote.h \
	worker/text/cli.c worker/text/cli.h \
	worker/text/cli_parse.c worker/text/cli_render.c worker/text/cli_tokens.c \
	worker/text/cli_verbs.h \
	worker/text/out_call.c worker/text/out_finish.c \
	worker/text/out_lex.c worker/text/out_lex.h \
	worker/text/out_message.c worker/text/out_message.h \
	worker/text/out_parser.c worker/text/out_parser.h worker/text/out_parser_impl.h \
	worker/text/out_trim.c worker/text/out_trim.h \
	worker/text/py_literal.c worker/text/py_literal.h \
	worker/text/tool_schema.c worker/text/tool_schema.h \
	worker/text/tool_value.c worker/text/tool_value.h \
	worker/text/value_scan.c worker/text/value_scan.h

TESTS += tests/golden/parser.sh tests/golden/text_cli.sh
dist_check_SCRIPTS += tests/golden/parser.sh tests/golden/text_cli.sh
dist_noinst_SCRIPTS += tests/golden/compare_parser.py tests/golden/parser_reference.py

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/out_parser_test
TESTS += tests/unit/out_parser_test
tests_unit_out_parser_test_SOURCES = tests/unit/out_parser_test.c tests/unit/unit.h \
	tests/unit/out_parser_cases.h tests/unit/out_parser_types.h
tests_unit_out_parser_test_CFLAGS = $(unit_cflags)
tests_unit_out_parser_test_LDADD = libtext.a $(unit_libs)
endif
