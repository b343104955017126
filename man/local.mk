# Manual pages: man/*.in is what people write, man/page.awk puts in what the programs and the
# protocol say themselves (options, keys, messages), so that a page cannot fall behind.
page_sources = man/hearth.7.in man/hearth-router.8.in man/hearthd.8.in man/hearth-worker.8.in \
	man/hearthctl.1.in man/hearth-bench.1.in man/hearth.conf.5.in man/hearth-protocol.7.in
EXTRA_DIST += $(page_sources) man/page.awk man/hearthd.conf.5 man/worker.conf.5
if SERVING
made_pages = $(page_sources:.in=)
man_MANS = $(made_pages) man/hearthd.conf.5 man/worker.conf.5
CLEANFILES += $(made_pages)

$(made_pages): man/page.awk
	$(AM_V_GEN)$(MKDIR_P) man && $(AWK) -v bin=bin -v proto=$(srcdir)/proto -f $(srcdir)/man/page.awk \
		$(srcdir)/$@.in >$@.new && mv $@.new $@
man/hearth.7: man/hearth.7.in
man/hearth-router.8: man/hearth-router.8.in bin/hearth-router
man/hearthd.8: man/hearthd.8.in bin/hearthd
man/hearth-worker.8: man/hearth-worker.8.in bin/hearth-worker
man/hearthctl.1: man/hearthctl.1.in bin/hearthctl
man/hearth-bench.1: man/hearth-bench.1.in bin/hearth-bench
man/hearth.conf.5: man/hearth.conf.5.in bin/hearth-router bin/hearthd bin/hearth-worker
man/hearth-protocol.7: man/hearth-protocol.7.in proto/hearth.proto proto/box.proto

TESTS += tests/lint/pages.sh tests/lint/page_facts.py tests/box/man_examples.py
tests/lint/pages.log tests/lint/page_facts.log: $(made_pages)
tests/box/man_examples.log: $(made_pages) bin/hearth-router bin/hearthd bin/hearth-worker bin/hearthctl \
	bin/hearth-bench
endif
EXTRA_DIST += tests/lint/pages.sh tests/lint/page_facts.py tests/box/man_examples.py
