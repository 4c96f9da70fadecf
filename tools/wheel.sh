#!/usr/bin/env bash
# Build the wheel with the programs in $1, install it into a new environment in $2, and run tests that do not import this
# checkout: a module that pyproject.toml forgets to package is missing there, while an editable install still finds it.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1 folder=$2
rm -rf "$folder"
"$bin/python" -m hatchling build --target wheel --directory "$folder/dist" >/dev/null
"$bin/uv" venv --quiet --python "$bin/python" "$folder/venv"
"$bin/uv" pip install --quiet --python "$folder/venv" --require-hashes -r requirements.lock
"$bin/uv" pip install --quiet --python "$folder/venv" --no-deps "$folder"/dist/*.whl

# Every module of every program is in the wheel. -P keeps the current folder off the path.
"$folder/venv/bin/python" -P tools/installed.py "$folder/venv"
"$folder/venv/bin/maleo" --help >/dev/null
"$folder/venv/bin/pytest" -q -p no:cacheprovider tests/golden
