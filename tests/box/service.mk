# What the programs say to a service manager.
if SERVING
TESTS += tests/box/service.py
tests/box/service.log: bin/hearth-worker bin/hearth-router
endif
EXTRA_DIST += tests/box/service.py
