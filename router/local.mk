if SERVING
noinst_LIBRARIES += librouter.a
librouter_a_SOURCES = \
	router/access.c router/access.h \
	router/admin.c router/admin_config.c router/admin_request.c \
	router/api.c router/router.h \
	router/attempt.c router/attempt.h \
	router/box.c router/box.h router/box_ask.c router/box_int.h \
	router/cloud.c router/cloud.h router/cloud_call.c router/cloud_int.h router/cloud_work.c \
	router/cloud_reader.c router/cloud_reader.h \
	router/fleet.c router/fleet.h router/fleet_gen.c router/fleet_int.h router/fleet_worker.c \
	router/http_conn.c router/http_int.h router/http_reply.c router/http_request.c \
	router/http_server.c router/http_server.h router/http_socket.c \
	router/job.c router/job.h router/job_begin.c router/job_error.c router/job_int.h \
	router/job_say.c router/job_target.c router/job_try.c router/job_via.c router/job_wait.c \
	router/metrics.c router/metrics.h \
	router/openai_chat.c \
	router/openai_error.c \
	router/openai_field.c router/openai_field.h \
	router/openai_logprob.c router/openai_logprob.h \
	router/openai_messages.c router/openai_messages.h \
	router/openai_object.c \
	router/openai_out.c router/openai_out.h router/openai_out_int.h \
	router/openai_request.c router/openai_request.h \
	router/openai_sampling.c \
	router/openai_stream.c \
	router/record.c router/record.h \
	router/reload.c router/reload.h \
	router/route.c router/route.h \
	router/service.c router/service.h \
	router/settings.c router/settings.h router/settings_chain.c router/settings_file.c \
	router/settings_int.h router/settings_keys.c router/settings_table.c \
	router/status.c
librouter_a_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS) $(CURL_CFLAGS) $(PROTOBUF_C_CFLAGS) $(INIH_CFLAGS)
router_libs = librouter.a $(EVENT_LIBS) $(HTTP_PARSER_LIBS) $(CURL_LIBS) $(wire_libs) $(lib_libs)

bin_PROGRAMS += bin/hearth-router
bin_hearth_router_SOURCES = router/main.c
bin_hearth_router_CPPFLAGS = $(librouter_a_CPPFLAGS)
bin_hearth_router_LDADD = $(router_libs)
endif
EXTRA_DIST += router/README.md
