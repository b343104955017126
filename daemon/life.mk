# The life of workers: hearthd's own library, so that tests link what they need of it.
if SERVING
noinst_LIBRARIES += liblife.a
liblife_a_SOURCES = \
	daemon/launcher.c daemon/launcher.h daemon/launcher_int.h \
	daemon/launcher_ask.c daemon/launcher_place.c
liblife_a_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS) $(PROTOBUF_C_CFLAGS) $(SYSTEMD_CFLAGS)
life_libs = liblife.a $(EVENT_LIBS) $(wire_libs) $(lib_libs)
endif
