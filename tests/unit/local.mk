# A line for each test program: it links only what its subject may use, so that an
# upward call fails to link.
if HAVE_CMOCKA
unit_cflags = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
unit_libs = $(lib_libs) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/lib_test
TESTS += tests/unit/lib_test
tests_unit_lib_test_SOURCES = tests/unit/lib_test.c tests/unit/unit.h
tests_unit_lib_test_CFLAGS = $(unit_cflags)
tests_unit_lib_test_LDADD = $(unit_libs)
endif

if HAVE_CMOCKA
if SERVING
check_PROGRAMS += tests/unit/wire_test
TESTS += tests/unit/wire_test
tests_unit_wire_test_SOURCES = tests/unit/wire_test.c tests/unit/unit.h
tests_unit_wire_test_CFLAGS = $(unit_cflags)
tests_unit_wire_test_LDADD = $(wire_libs) $(unit_libs)
endif
endif

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/pack_test
TESTS += tests/unit/pack_test
tests_unit_pack_test_SOURCES = tests/unit/pack_test.c tests/unit/unit.h kernels/cuda/pack.c \
	kernels/cpu/ref_matmul.c kernels/cpu/ref_matmul.h
tests_unit_pack_test_CFLAGS = $(unit_cflags)
tests_unit_pack_test_LDADD = $(unit_libs) -lm
endif
