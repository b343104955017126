TESTS += tests/lint/layers.sh
dist_check_SCRIPTS += tests/lint/layers.sh
EXTRA_DIST += tests/lint/layers.txt
