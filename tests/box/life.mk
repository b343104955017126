if SERVING
TESTS += tests/box/lifecycle.py tests/box/lifecycle_units.py
if SYSTEMD
fake_systemd = tests/tools/fake_systemd
check_PROGRAMS += tests/tools/fake_systemd
tests_tools_fake_systemd_SOURCES = tests/tools/fake_systemd.c
tests_tools_fake_systemd_CPPFLAGS = $(AM_CPPFLAGS) $(SYSTEMD_CFLAGS)
tests_tools_fake_systemd_LDADD = $(SYSTEMD_LIBS)
endif
tests/box/lifecycle.log tests/box/lifecycle_units.log: bin/hearth-worker bin/hearthctl bin/hearth-router \
	bin/hearthd $(fake_systemd)
endif
EXTRA_DIST += tests/box/lifecycle.py tests/box/lifecycle_units.py
