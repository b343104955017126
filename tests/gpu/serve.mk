# The router and a worker on a GPU: tests/gpu/serve.sh, on a rented machine; of that, `make check` runs the tiny model on the CPU,
# and what makes the weights of the large one.
EXTRA_DIST += tests/gpu/serve.sh tests/gpu/pack_serve.sh tests/gpu/serve.py tests/gpu/serve_big.py tests/box/dummy_checkpoint.py
check_PROGRAMS += tests/tools/dummy_checkpoint
tests_tools_dummy_checkpoint_SOURCES = tests/tools/dummy_checkpoint.c
tests_tools_dummy_checkpoint_LDADD = $(weights_libs) $(lib_libs)
TESTS += tests/box/dummy_checkpoint.py
tests/box/dummy_checkpoint.log: tests/tools/dummy_checkpoint tests/tools/logits_driver
if SERVING
TESTS += tests/gpu/serve.py
tests/gpu/serve.log: bin/hearth-worker bin/hearth-router bin/hearth-bench
endif
