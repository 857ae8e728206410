#!/usr/bin/env bash
# Format, lint, spelling and types. All of them report, whichever fails; the exit code is 1 if one did.
#
# usage: bash tools/check.sh        bash tools/check.sh --fix formats, and mends what the linter can

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_venv.sh"

fix=no
case ${1:-} in
    "") ;;
    --fix) fix=yes ;;
    -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) die "unknown argument $1. See: bash $(printf %q "$0") --help" 2 ;;
esac

use_venv test
cd "$root"
status=0
if [ $fix = yes ]; then
    python -m ruff check --fix . || status=1
    python -m ruff format . || status=1
else
    python -m ruff check . || status=1
    python -m ruff format --check . || status=1
fi
python -m codespell_lib . || status=1
python -m mypy --strict sedd || status=1
exit $status
