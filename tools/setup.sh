#!/bin/sh
# Find a Python that the course can use and let tools/setup_env.py make .venv with it.
# usage: sh tools/setup.sh [PYTHON]
cd "$(dirname "$0")/.." || exit 1
script=tools/setup_env.py

if [ $# -gt 0 ]; then
    if ! command -v "$1" >/dev/null 2>&1; then
        echo "There is no program called $1 here. Give the name or the path of a Python 3.11 or newer: make setup PYTHON=python3.12" >&2
        exit 1
    fi
    exec "$1" "$script" --asked-for
fi

first=
for how in "--usable --tried" --usable; do # newer ones may lack builds of the exact versions
    for name in python3 python3.13 python3.12 python3.11 python; do
        command -v "$name" >/dev/null 2>&1 || continue
        "$name" -c "" >/dev/null 2>&1 || continue
        # shellcheck disable=SC2086 # two words
        if "$name" "$script" $how >/dev/null 2>&1; then
            exec "$name" "$script"
        fi
        first=${first:-$name}
    done
done
if [ -n "$first" ]; then
    exec "$first" "$script" # it says why it cannot be used
fi
echo "No Python was found. Install Python 3.11 or newer (python.org, your package manager, or conda), then run this again." >&2
exit 1
