#!/bin/sh
# Makes a virtual environment and installs the locked dependencies and this project into it.
set -eu
venv=$1
python=${PYTHON:-python3}

fail() { echo "error: $*" >&2; exit 1; }

command -v "$python" >/dev/null 2>&1 || fail "there is no $python: install Python 3.11 or newer, or set PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version) is too old: install Python 3.11 or newer, or set PYTHON to it"

if [ ! -x "$venv/bin/python" ]; then
    echo "making $venv with $("$python" --version)"
    "$python" -m venv "$venv" ||
        fail "this Python can't make virtual environments: install its venv package (Debian: apt install python3-venv)"
fi
echo "installing the locked dependencies (a minute, the first time)"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# uv installs several times faster than pip; it is in the lock with its hashes like everything else.
sed -n '/^uv==/,/^[^ ]/p' requirements.lock | sed '$d' >"$venv/uv.lock"
"$venv/bin/python" -m pip install --quiet --no-deps --require-hashes -r "$venv/uv.lock"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements.lock
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
