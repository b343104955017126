if SERVING
TESTS += tests/box/lifecycle.py
tests/box/lifecycle.log: bin/hearth-worker bin/hearthctl bin/hearth-router bin/hearthd
endif
EXTRA_DIST += tests/box/lifecycle.py
