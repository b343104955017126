# Text (tokenizer, template, parsers) is a library of its own: it knows neither engine nor wire.
noinst_LIBRARIES += libtext.a
libtext_a_SOURCES =
include worker/text/tokenizer.mk
include worker/text/template.mk
include worker/text/parser.mk
include worker/weights.mk

bin_PROGRAMS += bin/hearth-worker
bin_hearth_worker_SOURCES = worker/main.c
bin_hearth_worker_LDADD = libtext.a $(lib_libs)
