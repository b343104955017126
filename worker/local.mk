# Text (tokenizer, template, parsers) is a library of its own: it knows neither engine nor wire.
noinst_LIBRARIES += libtext.a
libtext_a_SOURCES =
include worker/text/tokenizer.mk
include worker/text/template.mk
include worker/text/parser.mk
include worker/weights.mk
include worker/engine.mk

bin_PROGRAMS += bin/hearth-worker
bin_hearth_worker_SOURCES = worker/main.c
bin_hearth_worker_CPPFLAGS = $(AM_CPPFLAGS) $(PROTOBUF_C_CFLAGS) $(worker_serve_flags)
bin_hearth_worker_LDADD = $(serve_libs) $(engine_libs) $(lib_libs)
if CUDA
bin_hearth_worker_LDADD += $(cuda_backend_libs)
bin_hearth_worker_LDFLAGS = $(AM_LDFLAGS) $(cuda_backend_ldflags)
endif
