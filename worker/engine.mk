# The engine, from blocks to the thread that owns the device; the text of an answer on top
# of it; and, where the wire is built, the worker's side of it.
noinst_LIBRARIES += libengine.a
libengine_a_SOURCES = \
	worker/check.c worker/check.h \
	worker/chip.c worker/chip.h \
	worker/engine.c worker/engine.h worker/engine_guard.c worker/engine_int.h \
	worker/flight.c worker/flight.h \
	worker/gen_config.c worker/gen_config.h \
	worker/gen_out.c worker/gen_out.h \
	worker/generation.c worker/generation.h \
	worker/kv_pool.c worker/kv_pool.h \
	worker/load.c worker/load.h \
	worker/numeric_class.c worker/numeric_class.h \
	worker/prompt.c worker/prompt.h worker/prompt_chat.c \
	worker/sched.c worker/sched.h worker/sched_int.h worker/sched_list.c \
	worker/chunk.c worker/chunk.h worker/sched_room.c worker/sched_step.c \
	worker/self_test.c worker/self_test.h \
	worker/seq.c worker/seq.h \
	worker/stop_match.c worker/stop_match.h \
	worker/text_model.c worker/text_model.h \
	worker/traffic.c worker/traffic.h \
	worker/watchdog.c worker/watchdog.h
libengine_a_CPPFLAGS = $(AM_CPPFLAGS) $(XXHASH_CFLAGS)
engine_libs = libengine.a libtext.a $(weights_libs) $(XXHASH_LIBS)

if SERVING
noinst_LIBRARIES += libserve.a
libserve_a_SOURCES = \
	worker/serve.c worker/serve.h \
	worker/serve_args.c worker/serve_args.h \
	worker/serve_generate.c \
	worker/serve_guard.c worker/serve_guard.h \
	worker/serve_int.h \
	worker/serve_job.c \
	worker/serve_main.c \
	worker/serve_memory.c worker/serve_memory.h \
	worker/serve_send.c \
	worker/serve_svc.c \
	worker/xid.c worker/xid.h
libserve_a_CPPFLAGS = $(AM_CPPFLAGS) $(INIH_CFLAGS) $(PROTOBUF_C_CFLAGS) $(XXHASH_CFLAGS)
serve_libs = libserve.a $(engine_libs) $(box_libs) $(wire_libs)
worker_serve_flags = -DWITH_SERVING
endif
