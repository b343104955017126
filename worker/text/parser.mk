# The output parsers, and hearth-worker text.
libtext_a_SOURCES += \
	worker/text/call_args.c worker/text/call_args.h \
	worker/text/call_open.c worker/text/call_open.h \
	worker/text/call_quote.c worker/text/call_quote.h \
	worker/text/cli.c worker/text/cli.h \
	worker/text/cli_parse.c worker/text/cli_parse.h \
	worker/text/out_lex.c worker/text/out_lex.h \
	worker/text/out_message.c worker/text/out_message.h \
	worker/text/out_parser.c worker/text/out_parser.h \
	worker/text/out_trim.c worker/text/out_trim.h \
	worker/text/py_literal.c worker/text/py_literal.h \
	worker/text/tool_schema.c worker/text/tool_schema.h \
	worker/text/tool_value.c worker/text/tool_value.h \
	worker/text/value_scan.c worker/text/value_scan.h

bin_PROGRAMS += bin/hearth-worker
bin_hearth_worker_SOURCES = worker/main.c
bin_hearth_worker_LDADD = libtext.a $(lib_libs)
