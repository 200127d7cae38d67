#!/usr/bin/env bash
# Runs the quick start and the tests on both ends of the version ranges in setup.py.
#
#   scripts/check_versions.sh [oldest|newest]...     both, if none is named
#
# Each end has an environment of its own outside the checkout, kept for the next time:
#   SLIF_ENVIRONMENTS   where (default: ~/.cache/recbole_slif)
#   PYTHON_OLDEST       interpreter for the lower end (default: python3, 3.10 or 3.11)
#   PYTHON_NEWEST       interpreter for the upper end (default: python3)
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
environments=${SLIF_ENVIRONMENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/recbole_slif}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

say() { printf '\n== %s\n' "$*"; }

check() {
    local end=$1 interpreter=$2
    local environment=$environments/$end work
    say "$end: install"
    [ -x "$environment/bin/python" ] || "$interpreter" -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet \
        --constraint "$root/scripts/constraints-$end.txt" "$root[test]"
    # RecBole's pin of ray has no wheels from Python 3.12 on
    if "$environment/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 12))'; then
        "$environment/bin/python" -m pip install --quiet --no-deps recbole==1.2.1
    fi
    "$environment/bin/python" -m recbole_slif doctor

    say "$end: quick start"
    work=$(mktemp -d)
    (cd "$work" && "$environment/bin/python" -m recbole_slif run \
        --model=SLIFMR --epochs=2 --show_progress=False)
    rm -rf "$work"

    say "$end: tests"
    (cd "$root" && "$environment/bin/python" -m pytest -p no:cacheprovider)
}

for end in "${@:-oldest newest}"; do
    for one in $end; do
        case $one in
            oldest) check oldest "${PYTHON_OLDEST:-python3}" ;;
            newest) check newest "${PYTHON_NEWEST:-python3}" ;;
            *) echo "usage: $0 [oldest|newest]..." >&2; exit 2 ;;
        esac
    done
done
say "done"
