#!/bin/sh
# Make the virtual environment $1 anew, by the first of these that is there:
#   1. Python 3.8 to 3.11: what PYTHON names, or else one on the path,
#   2. uv, which downloads Python 3.11,
#   3. a later Python, which first installs uv into build/uv.
# An environment that is there already goes only when a new one can be made.
set -eu
venv=$1
get='install one (apt-get install python3.11-dev python3.11-venv) or uv (https://docs.astral.sh/uv)'
get="$get or name one with PYTHON=/path/to/python"

fail() {
    echo "$1" >&2
    exit 2
}

# first_python CONDITION COMMAND...: print the first command that is a Python of such a version and
# has venv.  It must run: a name on the path can be a shim of pyenv that fails.
first_python() {
    condition=$1
    shift
    for python; do
        test="import ensurepip, sys, venv; sys.exit(not ($condition))"
        if "$python" -c "$test" >/dev/null 2>&1; then
            echo "$python"
            return
        fi
    done
}

suits='(3, 8) <= sys.version_info[:2] <= (3, 11)'
if [ -n "${PYTHON:-}" ]; then
    python=$(first_python "$suits" "$PYTHON")
    [ -n "$python" ] || fail "PYTHON=$PYTHON is not a working Python 3.8 to 3.11 with venv: name \
another or leave it out"
else
    python=$(first_python "$suits" python3.11 python3.10 python3.9 python3.8 python3)
fi
if [ -n "$python" ]; then
    rm -rf "$venv"
    exec "$python" -m venv "$venv"
fi

uv=$(command -v uv 2>/dev/null) || uv=
if [ -z "$uv" ]; then
    later=$(first_python 'sys.version_info >= (3, 12)' python3 python3.14 python3.13 python3.12)
    [ -n "$later" ] || fail "no working Python 3.8 to 3.11 with venv found: $get"
    uv=build/uv/bin/uv
    "$later" -m venv build/uv &&
        build/uv/bin/python -m pip install --quiet --constraint constraints.txt uv ||
        fail "uv could not be installed: $get"
fi
rm -rf "$venv"
"$uv" venv --quiet --seed --python 3.11 "$venv" || fail "uv could not get Python 3.11: $get"
