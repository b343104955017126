noinst_LIBRARIES += liblib.a
liblib_a_SOURCES = \
	lib/buf.c lib/buf.h \
	lib/clock.h \
	lib/err.c lib/err.h \
	lib/json.c lib/json.h lib/json_put.c \
	lib/own.h \
	lib/utf8.c lib/utf8.h
