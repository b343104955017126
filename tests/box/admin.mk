# Who may ask the router for what.
if SERVING
TESTS += tests/box/admin_keys.py
tests/box/admin_keys.log: bin/hearthctl bin/hearth-router tests/box/mock_worker
endif
EXTRA_DIST += tests/box/admin_keys.py
