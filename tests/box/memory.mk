# The memory broker with real processes.
if SERVING
TESTS += tests/box/hearthd.py
tests/box/hearthd.log: bin/hearth-worker bin/hearthctl bin/hearthd libexec/hearth-dropcaches $(fake_systemd)
endif
EXTRA_DIST += tests/box/hearthd.py
