# A router under load, with the load generator that is shipped.
if SERVING
TESTS += tests/box/router_load.py
tests/box/router_load.log: bin/hearth-bench bin/hearth-router tests/box/mock_worker
endif
EXTRA_DIST += tests/box/router_load.py
