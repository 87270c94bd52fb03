#!/bin/sh
# Install what uv.lock names into a virtual environment, by its hashes; uv itself, which reads the
# lock, by its version:
#
#   deploy/install.sh VENV [options of `uv export`, such as --all-extras --group dev]
#
# Torch alone is held to its version only, and so are the CUDA libraries that a CUDA build brings:
# which of its builds is installed depends on where pip looks on this machine.
set -eu
cd "$(dirname "$0")/.."
venv=$1
shift
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
uv=$(sed -n 's/.*"\(uv==[^"]*\)".*/\1/p' pyproject.toml)
pip install --quiet --target "$work" "$uv"
"$work/bin/uv" export --quiet --frozen --no-default-groups --no-emit-project "$@" > "$work/all.txt"
awk '/^[a-z]/ { kept = !/^(torch|triton|cuda-|nvidia-)/ } kept' "$work/all.txt" > "$work/hashed.txt"
pip install --quiet --require-hashes --no-deps -r "$work/hashed.txt"
pip install --quiet "$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' "$work/all.txt")"
