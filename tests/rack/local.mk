# Booted machines with the packages installed: not part of `make check`, since it takes root, a
# network for the first debootstrap, and minutes.  `make rack` runs the short form, `make
# rack-check` does too, but says so and goes on where this machine cannot.  What judges there is
# judged in `make check`.
TESTS += tests/rack/load_check.py
EXTRA_DIST += tests/rack/cache.py tests/rack/check.sh tests/rack/examples.py tests/rack/faults.py tests/rack/fresh.py tests/rack/lifecycle.py tests/rack/load.py \
	tests/rack/load_check.py tests/rack/machine.py \
	tests/rack/run.py tests/rack/README.md

rack: deb
	$(AM_V_at)top_builddir=. $${HEARTH_PYTHON:-python3} $(srcdir)/tests/rack/run.py --short
rack-check:
	$(AM_V_at)MAKE='$(MAKE)' $(srcdir)/tests/rack/check.sh . || [ $$? = 77 ]
.PHONY: rack rack-check
