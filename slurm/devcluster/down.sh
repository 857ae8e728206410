#!/usr/bin/env bash
# Stop the throw-away SLURM with all its jobs, and remove its folder.
#
# usage: bash down.sh [--keep] [FOLDER]      FOLDER: ${SEDD_DEVCLUSTER:-/tmp/sedd-devcluster}
#   --keep   leave the folder, to read its logs

set -euo pipefail
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/common.sh"

keep=no folder=
for argument in "$@"; do
    case $argument in
        --keep) keep=yes ;;
        -h | --help) usage ;;
        -*) die "unknown option $argument. See: bash $(printf %q "$0") --help" 2 ;;
        *) folder=$argument ;;
    esac
done

stop() { # stop SECONDS PID...: SIGTERM, then SIGKILL to those that are left
    local end=$((SECONDS + $1)) pid
    shift
    kill "$@" 2>/dev/null || true
    for pid in "$@"; do
        while [ -e "/proc/$pid" ] && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null; do
            [ $SECONDS -lt $end ] || { kill -9 "$pid" 2>/dev/null || true; break; }
            sleep 0.1
        done
    done
}

stop_jobs() { # they are thrown away: no grace; a second look finds what was being started
    local pids
    for _ in 1 2 3; do
        pids=$(job_processes)
        [ -n "$pids" ] || return 0
        # shellcheck disable=SC2086 # a list of numbers
        kill -9 $pids 2>/dev/null || true
        sleep 0.2
    done
}

main() {
    local name pids=
    use_root "${folder:-${SEDD_DEVCLUSTER:-/tmp/sedd-devcluster}}"
    exists || { say "nothing to stop in $root"; exit 0; }
    require_root
    # slurmctld first, so that nothing is started or requeued behind our back.
    for name in slurmctld slurmd-v100-1 slurmd-v100-2 slurmd-v100-3 slurmd-v100-4; do pids="$pids $(pid_of $name || true)"; done
    # shellcheck disable=SC2086 # lists of numbers
    stop 5 $pids
    stop_jobs
    for name in slurmdbd mariadbd munged; do
        # shellcheck disable=SC2046
        stop 10 $(pid_of $name || true)
    done
    [ $keep = yes ] || rm -rf -- "$root"
    say "down"
}

main
