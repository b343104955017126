TESTS += tests/lint/layers.sh tests/lint/hardening.sh
dist_check_SCRIPTS += tests/lint/layers.sh tests/lint/hardening.sh
EXTRA_DIST += tests/lint/layers.txt
# the programs must be there before they are looked at
tests/lint/hardening.log: $(bin_PROGRAMS)
