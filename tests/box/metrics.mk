# What router and hearthd say to Prometheus.
if SERVING
TESTS += tests/box/metrics.py
tests/box/metrics.log: bin/hearth-worker bin/hearth-router bin/hearthd tests/box/mock_worker
endif
EXTRA_DIST += tests/box/metrics.py
