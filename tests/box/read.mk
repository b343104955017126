# Loading past the page cache, as a person sees it.
if SERVING
TESTS += tests/box/read_weights.py
tests/box/read_weights.log: bin/hearth-worker bin/hearth-bench
endif
EXTRA_DIST += tests/box/read_weights.py
