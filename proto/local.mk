if SERVING
noinst_LIBRARIES += libproto.a
libproto_a_SOURCES = proto/wire.c proto/wire.h proto/wire_arena.c proto/wire_arena.h \
	proto/link.h proto/link_int.h proto/link_server.c proto/link_client.c \
	proto/link_socket.c proto/link_monitor.c proto/link_auth.c proto/link_keys.c
nodist_libproto_a_SOURCES = proto/hearth.pb-c.c proto/hearth.pb-c.h
libproto_a_CPPFLAGS = $(AM_CPPFLAGS) $(ZMQ_CFLAGS) $(PROTOBUF_C_CFLAGS)
# protoc-c's output is not ours to keep free of warnings
proto/libproto_a-hearth.pb-c.$(OBJEXT): AM_CFLAGS += -Wno-conversion
BUILT_SOURCES += proto/hearth.pb-c.h
CLEANFILES += proto/hearth.pb-c.h proto/hearth.pb-c.c
proto/hearth.pb-c.c: proto/hearth.pb-c.h
	@:
proto/hearth.pb-c.h: proto/hearth.proto
	$(AM_V_GEN)$(MKDIR_P) proto && $(PROTOC_C) -I$(top_srcdir) --c_out=. proto/hearth.proto
wire_libs = libproto.a $(ZMQ_LIBS) $(PROTOBUF_C_LIBS)
endif
EXTRA_DIST += proto/hearth.proto
