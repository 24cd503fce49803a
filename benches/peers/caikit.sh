#!/bin/sh
# Measures Caikit's LocalModelTrainer with the cases j_train and j_facts of superduper-bench.
#   caikit.sh list | prepare | run CASE... [--n N] [other options are accepted]
# The virtual environment is made once, in PEER_DIR (by default a folder in the user's cache folder).
# One line of JSON per measurement on standard output.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${PEER_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/superduper-bench/peer-caikit}
python="$dir/venv/bin/python"
if [ "${1:-}" = list ]; then printf 'j_train\nj_facts\n'; exit 0; fi
if [ ! -x "$python" ]; then
    mkdir -p "$dir"
    "${PYTHON:-python3}" -m venv "$dir/venv"
fi
if ! "$python" -c 'import caikit' 2>/dev/null; then
    # Versions that belong together; caikit itself leaves them open.
    "$python" -m pip install -q caikit==0.29.1 protobuf==6.33.6 py_to_proto==0.7.0 numpy==2.4.6 importlib_metadata==7.2.1 \
        ijson==3.2.3 anytree==2.13.0 docstring_parser==0.16 munch==4.0.0 grpcio==1.85.1 >&2
fi
[ "${1:-}" != prepare ] || exit 0
export LOG_LEVEL=off TOKENIZERS_PARALLELISM=false
exec "$python" "$here/caikit_jobs.py" "$@"
