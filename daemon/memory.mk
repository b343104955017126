# hearthd's memory broker, and the helper that drops caches.
if SERVING
noinst_LIBRARIES += libmemory.a
libmemory_a_SOURCES = \
	daemon/broker.c daemon/broker.h daemon/broker_books.c daemon/broker_claims.c \
	daemon/broker_int.h daemon/broker_level.c daemon/broker_text.c \
	daemon/checks.c daemon/checks.h \
	daemon/desk.c daemon/desk.h \
	daemon/drop.c daemon/drop.h \
	daemon/holders.c daemon/holders.h \
	daemon/memory.c daemon/memory.h daemon/memory_act.c daemon/memory_int.h \
	daemon/memory_measure.c daemon/memory_workload.c \
	daemon/memory_conf.c daemon/memory_conf.h \
	daemon/memory_desk.c daemon/memory_metrics.c daemon/memory_table.c \
	daemon/nvml.c daemon/nvml.h \
	daemon/workload.c daemon/workload.h daemon/workload_int.h daemon/workload_bus.c
libmemory_a_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS) $(PROTOBUF_C_CFLAGS) $(SYSTEMD_CFLAGS)
memory_libs = libmemory.a $(EVENT_LIBS) $(box_libs) $(lib_libs) -ldl

hearthlibexecdir = $(libexecdir)/hearth
hearthlibexec_PROGRAMS = libexec/hearth-dropcaches
libexec_hearth_dropcaches_SOURCES = daemon/dropcaches.c
libexec_hearth_dropcaches_CPPFLAGS = $(AM_CPPFLAGS) $(SYSTEMD_CFLAGS)
libexec_hearth_dropcaches_LDADD = $(lib_libs)
endif
EXTRA_DIST += daemon/README.md
