# What workers and hearthctl say to the box's hearthd: no ZeroMQ here.
if SERVING
noinst_LIBRARIES += libboxproto.a
libboxproto_a_SOURCES = proto/box_wire.c proto/box_wire.h proto/grant.c proto/grant.h
nodist_libboxproto_a_SOURCES = proto/box.pb-c.c proto/box.pb-c.h
libboxproto_a_CPPFLAGS = $(AM_CPPFLAGS) $(PROTOBUF_C_CFLAGS)
proto/libboxproto_a-box.pb-c.$(OBJEXT): AM_CFLAGS += -Wno-conversion
BUILT_SOURCES += proto/box.pb-c.h
CLEANFILES += proto/box.pb-c.h proto/box.pb-c.c
proto/box.pb-c.c: proto/box.pb-c.h
	@:
proto/box.pb-c.h: proto/box.proto
	$(AM_V_GEN)$(MKDIR_P) proto && $(PROTOC_C) -I$(top_srcdir) --c_out=. proto/box.proto
box_libs = libboxproto.a $(PROTOBUF_C_LIBS)
endif
EXTRA_DIST += proto/box.proto
