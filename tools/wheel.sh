#!/usr/bin/env bash
# Build the wheel with the programs in $1, install it into new environments in $2, and run tests that do not import this
# checkout: what pyproject.toml forgets to package is missing there, while an editable install still finds it.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1 folder=$2
rm -rf "$folder"
"$bin/python" -m hatchling build --target wheel --directory "$folder/dist" >/dev/null
wheel=$(echo "$folder"/dist/*.whl)

# $1: environment; further arguments: what to install
environment() {
  "$bin/uv" venv --quiet --python "$bin/python" "$folder/$1"
  "$bin/uv" pip install --quiet --python "$folder/$1" "${@:2}"
}

# -P keeps the current folder off the path.
environment all --require-hashes -r requirements.lock
"$bin/uv" pip install --quiet --python "$folder/all" --no-deps "$wheel"
"$folder/all/bin/python" -P tools/installed.py modules "$folder/all"
"$folder/all/bin/python" -P tools/installed.py commands "$folder/all"
"$folder/all/bin/pytest" -q -p no:cacheprovider tests/golden

environment light --constraint requirements.lock "$wheel[cli]"
"$folder/light/bin/python" -P tools/installed.py light "$folder/light"

environment bare --constraint requirements.lock "$wheel"
"$folder/bare/bin/python" -P tools/installed.py bare "$folder/bare"
