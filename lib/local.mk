noinst_LIBRARIES += liblib.a
liblib_a_SOURCES = \
	lib/buf.c lib/buf.h \
	lib/bytes.c lib/bytes.h \
	lib/clock.h \
	lib/err.c lib/err.h \
	lib/events.h \
	lib/expo.c lib/expo.h \
	lib/file.c lib/file.h \
	lib/json.c lib/json.h lib/json_put.c \
	lib/log.c lib/log.h \
	lib/meminfo.c lib/meminfo.h \
	lib/opts.c lib/opts.h \
	lib/own.h \
	lib/sse.c lib/sse.h \
	lib/svc.c lib/svc.h \
	lib/text.h \
	lib/utf8.c lib/utf8.h
liblib_a_CPPFLAGS = $(AM_CPPFLAGS) $(SYSTEMD_CFLAGS)
lib_libs = liblib.a $(JANSSON_LIBS) $(SYSTEMD_LIBS)
if SERVING
liblib_a_SOURCES += \
	lib/conf.c lib/conf.h lib/conf_check.c lib/conf_diff.c lib/conf_file.c lib/conf_int.h lib/conf_put.c
lib_libs += $(INIH_LIBS)
endif
