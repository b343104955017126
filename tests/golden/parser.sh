#!/bin/sh
# parser.sh - a short run of compare_parser.py; longer ones by hand, with another --seed.
cd "${top_builddir:-.}" || exit 99
export PYTHONDONTWRITEBYTECODE=1
exec "${PYTHON:-python3}" "${top_srcdir:-.}/tests/golden/compare_parser.py" bin/hearth-worker --n 3000
