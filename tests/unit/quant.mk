# Quantised weights: the formats, and checkpoints written in each.
check_PROGRAMS += tests/tools/dequant_driver
tests_tools_dequant_driver_SOURCES = tests/tools/dequant_driver.c
tests_tools_dequant_driver_LDADD = $(weights_libs) $(lib_libs)

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/dequant_test
TESTS += tests/unit/dequant_test
tests_unit_dequant_test_SOURCES = tests/unit/dequant_test.c tests/unit/unit.h \
	kernels/cpu/ref_matmul.c kernels/cpu/ref_matmul.h \
	tests/unit/quant_model.c tests/unit/quant_model.h \
	tests/unit/random_model.c tests/unit/random_model.h
tests_unit_dequant_test_CFLAGS = $(unit_cflags)
tests_unit_dequant_test_LDADD = $(kernels_libs) $(unit_libs)

check_PROGRAMS += tests/unit/quant_test
TESTS += tests/unit/quant_test
tests_unit_quant_test_SOURCES = tests/unit/quant_test.c tests/unit/unit.h \
	tests/unit/quant_folder.c tests/unit/quant_folder.h \
	tests/unit/quant_model.c tests/unit/quant_model.h \
	tests/unit/random_model.c tests/unit/random_model.h
tests_unit_quant_test_CFLAGS = $(unit_cflags)
tests_unit_quant_test_LDADD = $(weights_libs) $(unit_libs)
endif
