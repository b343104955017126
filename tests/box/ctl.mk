# hearthctl over real processes.
if SERVING
ctl_tests = tests/box/ctl_config.py tests/box/ctl_completion.py tests/box/ctl_doctor.py tests/box/ctl_explain.py tests/box/ctl_logs.py tests/box/ctl_pair.py tests/box/ctl_top.py
TESTS += $(ctl_tests)
$(ctl_tests:.py=.log): bin/hearthctl ctl/completion/hearthctl ctl/completion/_hearthctl bin/hearth-router bin/hearth-worker bin/hearthd tests/box/mock_worker
endif
EXTRA_DIST += tests/box/ctl_config.py tests/box/ctl_completion.py tests/box/ctl_doctor.py tests/box/ctl_explain.py tests/box/ctl_logs.py tests/box/ctl_pair.py tests/box/ctl_top.py
