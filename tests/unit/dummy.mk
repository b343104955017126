# Made-up weights: the generator, and PyTorch's twin of it.
check_PROGRAMS += tests/tools/dummy_driver
tests_tools_dummy_driver_SOURCES = tests/tools/dummy_driver.c
tests_tools_dummy_driver_LDADD = $(weights_libs) $(lib_libs)
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/dummy_test
TESTS += tests/unit/dummy_test
tests_unit_dummy_test_SOURCES = tests/unit/dummy_test.c tests/unit/unit.h \
	tests/fake/random_model.c tests/fake/random_model.h
tests_unit_dummy_test_CFLAGS = $(unit_cflags)
tests_unit_dummy_test_LDADD = $(kernels_libs) $(unit_libs)
endif
EXTRA_DIST += tests/golden/compare_dummy.py tests/golden/compare_true.py tests/golden/dummy_weights.py \
	tests/golden/hf_dummy.py tests/golden/true_shapes.py
# The judge of `hearth-bench exact`, and both programs on small shapes.
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/exact_book_test
TESTS += tests/unit/exact_book_test
tests_unit_exact_book_test_SOURCES = tests/unit/exact_book_test.c tests/unit/unit.h bench/exact_book.c bench/exact_book.h \
	bench/random_request.c bench/random_request.h
tests_unit_exact_book_test_CFLAGS = $(unit_cflags)
tests_unit_exact_book_test_LDADD = $(engine_libs) $(unit_libs)
endif
TESTS += tests/box/exact_soak.py
tests/box/exact_soak.log: bin/hearth-bench
EXTRA_DIST += tests/box/exact_soak.py
