#!/usr/bin/env bash
# Create the virtual environment in $1 from requirements.lock, with uv.
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
installer=$(command -v uv || true)
if [ -n "$installer" ]; then
  "$installer" venv --quiet --clear --python "$python" "$venv"
else
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "Python's venv module is missing. On Debian: apt install python3-venv" >&2
    exit 1
  fi
  "$python" -m venv --clear "$venv"
  # Install uv first, in its locked version: it installs the rest in a fraction of pip's time.
  awk '/^uv==/ {on=1} on {print} on && !/\\$/ {exit}' requirements.lock >"$venv/uv.txt"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$venv/uv.txt"
  installer=$venv/bin/uv
fi
"$installer" pip install --quiet --python "$venv" --require-hashes -r requirements.lock
"$installer" pip install --quiet --python "$venv" --no-deps --no-build-isolation -e .
