#!/usr/bin/env bash
# Make the virtual environment in $1 from requirements.lock, with uv where it is at hand, else with venv and pip.
set -euo pipefail
venv=$1

python=
for candidate in python3.11 python3.12 python3.13 python3; do
  if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "Maleo needs Python 3.11 or newer, and none was found. On Debian: apt install python3 python3-venv" >&2
  exit 1
fi

echo "== Python environment in $venv ($("$python" --version); about a minute when nothing is cached)"
if command -v uv >/dev/null; then
  uv venv --quiet --clear --python "$python" "$venv"
  uv pip install --quiet --python "$venv" --require-hashes -r requirements.lock
  uv pip install --quiet --python "$venv" --no-deps --no-build-isolation -e .
else
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "Python's venv module is missing. On Debian: apt install python3-venv" >&2
    exit 1
  fi
  "$python" -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
fi
