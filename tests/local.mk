include tests/unit/local.mk
include tests/unit/cpu.mk
include tests/lint/local.mk
include tests/fuzz/local.mk
include tests/gpu/local.mk
