#!/bin/sh
# Measures the Python framework Superduper with the cases of superduper-bench.
#   superduper.sh list | prepare | run CASE... [--n N] [--mib N,...] [--reps N] [--limit S] [--work DIR]
# The virtual environment is made once, in PEER_DIR (by default a folder in the user's cache folder).
# One line of JSON per measurement on standard output.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${PEER_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/superduper-bench/peer-superduper}
python="$dir/venv/bin/python"
if [ ! -x "$python" ]; then
    mkdir -p "$dir"
    "${PYTHON:-python3}" -m venv "$dir/venv"
fi
if ! "$python" -c 'import superduper, superduper_sql' 2>/dev/null; then
    # superduper-framework pins nothing; these versions belong together.
    "$python" -m pip install -q \
        superduper-framework==0.10.0 superduper_sql==0.10.0 ibis-framework==10.4.0 sqlalchemy==2.1.9 \
        pandas==2.3.3 numpy==2.4.6 dill==0.4.1 networkx==3.6.1 pyarrow==26.0.1 sqlglot==30.30.0 >&2
fi
[ "${1:-}" != prepare ] || exit 0
exec "$python" "$here/superduper.py" "$@"
