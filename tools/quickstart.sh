#!/usr/bin/env bash
# From a bare clone to a trained protein diffusion model: installs, builds the data, submits, shows progress, samples.
#
# usage: bash tools/quickstart.sh [--v100]
#   --v100   with the PyTorch that V100 users run (CUDA 12 wheels that hold sm_70)
# A second call reuses what is there. Runs are in ./runs, or in $SEDD_RUNS.

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_venv.sh"

extras=(report) # sampling jobs write a page about what they drew
case ${1:-} in
    "") ;;
    --v100) extras+=(volta) ;;
    -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) die "unknown argument $1. See: bash $(printf %q "$0") --help" 2 ;;
esac

use_venv "${extras[@]}"
export SEDD_RUNS=${SEDD_RUNS:-$root/runs}
store=$root/jobs/data/quickstart.store

say "
== 1. real proteins -> token store"
sedd data build "$root/jobs/data/uniprot2k.fasta.gz" --clusters "$root/jobs/data/uniprot2k_clusters.tsv" -o "$store"

say "
== 2. preflight, submit to this machine, follow (Ctrl-C leaves it running; call this script again to come back)"
sedd submit "$root/jobs/quickstart.yaml" --cluster "$root/slurm/local.yaml" --follow
# By its id, since a newer run may bear the same name.
run=$(sedd submit "$root/jobs/quickstart.yaml" --cluster "$root/slurm/local.yaml" --wait --json 2>/dev/null |
    python -c 'import json, sys; print(json.load(sys.stdin)["runs"][0]["id"])')

say "
== 3. what was learned"
python "$root/tools/learned.py" "$run" "$store"

say "
== 4. ten new proteins, their first 60 residues"
samples=$SEDD_RUNS/quickstart.fasta
sedd sample "$run" -n 10 --steps 64 -o "$samples" --force
awk '/^>/ { printf "%s%s ", n++ ? "\n" : "", $1; next } { printf "%s", $0 } END { print "" }' "$samples" |
    while read -r name sequence; do printf '%-10s %.60s\n' "$name" "$sequence"; done

say "
Next:   (first: source .venv/bin/activate)
  sedd status quickstart                         the run in full
  sedd sample quickstart -n 5 --length 80-120    more proteins
  sedd preflight jobs/uniref50_small.yaml --cluster slurm/v100.yaml    what a V100 cluster would need"
