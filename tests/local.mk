include tests/unit/local.mk
include tests/unit/engine.mk
include tests/unit/router.mk
include tests/lint/local.mk
include tests/fuzz/local.mk
include tests/fuzz/router.mk
include tests/gpu/local.mk
include tests/box/local.mk
