# Units, users, folders, catalogue and configuration: what makes programs a service.
dist_noinst_DATA += etc/worker.conf etc/tiny.conf etc/alias-tiny.conf etc/hearthd-tiny.conf etc/hearthd.conf.sample etc/hearth.conf.sample
unit_files = etc/systemd/hearth-router.socket etc/systemd/hearth-dropcaches.socket etc/systemd/hearth.slice
made_units = etc/systemd/hearth-router.service etc/systemd/hearth-worker@.service \
	etc/systemd/hearthd.service etc/systemd/hearth-dropcaches.service
EXTRA_DIST += $(unit_files) $(made_units:=.in) etc/catalog/hearth.catalog etc/sysusers.d/hearth.conf \
	etc/tmpfiles.d/hearth.conf etc/preset/80-hearth.preset
CLEANFILES += $(made_units)

$(made_units): Makefile
	$(AM_V_GEN)$(MKDIR_P) etc/systemd && sed \
		-e 's,[@]bindir@,$(bindir),g' -e 's,[@]libexecdir@,$(libexecdir),g' \
		-e 's,[@]sysconfdir@,$(sysconfdir),g' \
		$(srcdir)/$@.in >$@.new && mv $@.new $@
etc/systemd/hearth-router.service: etc/systemd/hearth-router.service.in
etc/systemd/hearth-worker@.service: etc/systemd/hearth-worker@.service.in
etc/systemd/hearthd.service: etc/systemd/hearthd.service.in
etc/systemd/hearth-dropcaches.service: etc/systemd/hearth-dropcaches.service.in

if SERVING
if UNITS
all-local: $(made_units)
systemdunit_DATA = etc/systemd/hearth-router.socket etc/systemd/hearth.slice \
	etc/systemd/hearth-router.service etc/systemd/hearth-worker@.service
systemdunitdir = $(systemdsystemunitdir)
catalogdir = $(prefix)/lib/systemd/catalog
catalog_DATA = etc/catalog/hearth.catalog
sysusersdir = $(prefix)/lib/sysusers.d
sysusers_DATA = etc/sysusers.d/hearth.conf
tmpfilesdir = $(prefix)/lib/tmpfiles.d
tmpfiles_DATA = etc/tmpfiles.d/hearth.conf
presetdir = $(prefix)/lib/systemd/system-preset
preset_DATA = etc/preset/80-hearth.preset
# Units of programs that this tree builds, and of no others.
if HAVE_DAEMON
systemdunit_DATA += etc/systemd/hearthd.service
endif
if HAVE_DROPCACHES
systemdunit_DATA += etc/systemd/hearth-dropcaches.socket etc/systemd/hearth-dropcaches.service
endif
endif
endif

# A dashboard whose queries tests/box/metrics.py holds against what the programs say.
if SERVING
grafanadir = $(datadir)/hearth/grafana
dist_grafana_DATA = etc/grafana/hearth.json
endif

TESTS += tests/lint/units.sh tests/lint/catalog.sh
tests/lint/units.log: $(made_units)
EXTRA_DIST += tests/lint/units.sh tests/lint/catalog.sh
