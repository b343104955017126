# The life of workers: hearthd's own library, so that tests link what they need of it.
if SERVING
noinst_LIBRARIES += liblife.a
liblife_a_SOURCES = \
	daemon/estimate.c daemon/estimate.h \
	daemon/launcher.c daemon/launcher.h daemon/launcher_int.h \
	daemon/launcher_ask.c daemon/launcher_place.c daemon/launcher_time.c \
	daemon/life.c daemon/life.h daemon/life_int.h daemon/life_metrics.c \
	daemon/life_turn.c daemon/life_uplink.c \
	daemon/metric_table.c daemon/metric_table.h \
	daemon/model_argv.c daemon/model_conf.c daemon/model_conf.h \
	daemon/notify.c daemon/notify.h \
	daemon/pid_file.c daemon/pid_file.h \
	daemon/report.c daemon/report.h \
	daemon/runner.c daemon/runner.h \
	daemon/scrape.c daemon/scrape.h daemon/scrape_head.c daemon/scrape_head.h \
	daemon/program.c daemon/program.h \
	daemon/spawn.c \
	daemon/unit_facts.c daemon/unit_facts.h \
	daemon/telemetry.c daemon/telemetry.h \
	daemon/uplink.c daemon/uplink.h \
	daemon/worker_log.c daemon/worker_log.h
if SYSTEMD
liblife_a_SOURCES += daemon/sdbus.c daemon/sdbus_bus.c daemon/sdbus_int.h daemon/sdbus_unit.c
else
liblife_a_SOURCES += daemon/sdbus_none.c
endif
liblife_a_CPPFLAGS = $(AM_CPPFLAGS) $(EVENT_CFLAGS) $(PROTOBUF_C_CFLAGS) $(SYSTEMD_CFLAGS)
life_libs = liblife.a $(EVENT_LIBS) $(wire_libs) $(lib_libs)

bin_PROGRAMS += bin/hearthd
bin_hearthd_SOURCES = daemon/main.c
bin_hearthd_CPPFLAGS = $(liblife_a_CPPFLAGS)
bin_hearthd_LDADD = $(memory_libs) $(life_libs)
endif
