# Pages.  mandoc reads them without a word; tests/lint/pages.sh holds that.
dist_man_MANS = man/hearth-bench.1 man/hearth-router.8 man/hearth-worker.8 man/hearthctl.1 man/hearthd.8
TESTS += tests/lint/pages.sh
EXTRA_DIST += tests/lint/pages.sh
