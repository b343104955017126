# Model folders: checked, quantised by other people's tools, served.  Both skip (77) without what they need.
TESTS += tests/box/check_model.py
tests/box/check_model.log: bin/hearth-worker
if SERVING
TESTS += tests/box/quantised.py tests/box/load_options.py
tests/box/load_options.log: bin/hearth-worker bin/hearth-router bin/hearth-bench
tests/box/quantised.log: bin/hearth-worker bin/hearth-router tests/tools/dequant_driver tests/tools/logits_driver
endif
EXTRA_DIST += tests/box/check_model.py tests/box/quantised.py tests/box/load_options.py tests/tools/synthetic_checkpoint.py \
	tools/quant/quantise.py tools/quant/check.py tools/quant/kl.py tools/quant/held_out.py tools/quant/requirements.txt \
	tools/quant/README.md
