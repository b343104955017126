# `make deb`: packages in build/deb.
EXTRA_DIST += tests/deb/reproducible.sh tests/deb/lint.sh tools/make-deb.sh debian/changelog debian/control debian/copyright debian/rules \
	debian/source/format \
	debian/hearth-common.manpages debian/hearth-router.manpages debian/hearth-box.manpages debian/hearth-tools.manpages \
	debian/hearth-common.docs debian/hearth-common.install debian/hearth-common.postrm debian/hearth-common.prerm \
	debian/hearth-router.dirs debian/hearth-router.install debian/hearth-router.postrm \
	debian/hearth-box.dirs debian/hearth-box.install debian/hearth-box.postinst \
	debian/hearth-box.postrm debian/hearth-box.prerm \
	debian/hearth-model-tiny.install debian/hearth-tools.install

deb:
	$(AM_V_at)$(MAKE) $(AM_MAKEFLAGS) distdir >/dev/null
	$(AM_V_at)$(srcdir)/tools/make-deb.sh $(distdir) deb && chmod -R u+w $(distdir) && rm -rf $(distdir)
.PHONY: deb
