#!/bin/sh
# template.sh - our chat templates against Jinja2, where PYTHON has transformers (skips elsewhere).
# The full run is in the docstring of compare_template.py.
here=${top_srcdir:-.}/tests/golden
exec "${PYTHON:-python3}" "$here/compare_template.py" \
	"${top_builddir:-.}/tests/tools/template_driver" --conversations 200
