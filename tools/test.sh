#!/usr/bin/env bash
# Run every test that this machine can run, and say which it cannot.
#
# usage: bash tools/test.sh [--slurm] [--v100] [PYTEST ARGUMENTS…]
#   --slurm   also the tests against a real SLURM on this machine; installs Debian's packages (needs root)
#   --v100    with the PyTorch that V100 users run
# Paths in PYTEST ARGUMENTS are taken from the project's folder. The exit code is pytest's.

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_venv.sh"

extras=(test) slurm=no arguments=()
while [ $# -gt 0 ]; do
    case $1 in
        --slurm) slurm=yes ;;
        --v100) extras+=(volta) ;;
        -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        --) shift; arguments+=("$@"); break ;;
        *) arguments+=("$1") ;;
    esac
    shift
done

use_venv "${extras[@]}"
if [ $slurm = yes ]; then
    bash "$root/slurm/devcluster/install.sh"
    export SEDD_TEST_SLURM=1
fi

# Tests on SLURM mostly wait: they run beside the others, unless somebody chose some of them, and half of them, whole
# campaigns and time limits, on a cluster of their own. The others wait, too, for jobs and processes of theirs: three run
# at a time, those of one file after each other, and the longest files first (tests/conftest.py). They are nice to those
# on SLURM, whose every wait for a processor makes all of it longer.
long_ones=(tests/slurm/test_{chaos,format_1,halving,hangs,plans,usage}.py)
slurm_tests() {
    local outputs status=0 pid pids=()
    outputs=$(mktemp -d)
    python -m pytest "${long_ones[@]}" >"$outputs/1" 2>&1 &
    pids+=($!)
    python -m pytest tests/slurm "${long_ones[@]/#/--ignore=}" >"$outputs/2" 2>&1 &
    pids+=($!)
    # By SIGINT pytest takes the cluster down before it ends.
    trap "kill -INT ${pids[*]} 2>/dev/null || :; wait ${pids[*]} || :; rm -rf '$outputs'" EXIT
    nice -n 10 python -m pytest --ignore tests/slurm -n 3 --dist loadfile --no-loadscope-reorder || status=$?
    [ $status -ne 2 ] || return 2  # Ctrl-C
    say "Now what the tests on SLURM, which ran beside them, have to say:"
    for pid in "${pids[@]}"; do
        wait "$pid" || status=$?
    done
    cat "$outputs"/*
    return $status
}

cd "$root"
status=0
if [ $slurm = yes ] && [ ${#arguments[@]} -eq 0 ]; then
    slurm_tests || status=$?
else
    python -m pytest ${arguments[@]+"${arguments[@]}"} || status=$?
fi

if [ $slurm = no ]; then
    say "not run: tests on a real SLURM, since nobody asked. To run them: bash tools/test.sh --slurm   (as root)"
fi
if ! nvidia-smi -L >/dev/null 2>&1; then
    say "not run: tests on a GPU, since there is none. To run them: the same command on a machine with one"
fi
exit $status
