#!/usr/bin/env bash
# Stop one daemon of the running throw-away SLURM (SIGTERM), kill it as a crash would (SIGKILL), or start it again.
# A slurmctld that is killed forgets what it has not saved yet, which may be the last seconds' jobs.
#
# usage: bash daemon.sh stop|kill|start NAME [FOLDER]      NAME: slurmctld, slurmd-v100-1 … slurmd-v100-4
# FOLDER: ${SEDD_DEVCLUSTER:-/tmp/sedd-devcluster}

set -euo pipefail
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/common.sh"

[ "${1:-}" != --help ] && [ "${1:-}" != -h ] || usage
[ $# -ge 2 ] || usage 2 >&2
use_root "${3:-${SEDD_DEVCLUSTER:-/tmp/sedd-devcluster}}"
exists || die "nothing in $root. Start it with: bash $(sibling up.sh) $root"
require_root
gone() { ! is_ours "$1"; }

case $2 in
    slurmctld) command=(slurmctld -f "$conf") ;;
    slurmd-v100-[1-4]) command=(slurmd -f "$conf" -N "${2#slurmd-}") ;;
    *) usage 2 >&2 ;;
esac
case $1 in
    stop)
        pid=$(pid_of "$2") || die "$2 is not running"
        kill "$pid"
        wait_for 20 gone "$pid" || die "$2 does not stop" ;;
    kill) pid=$(pid_of "$2") && kill -9 "$pid" || die "$2 is not running" ;;
    start)
        . "$root/etc/address"
        forget_surrounding_job
        pid_of "$2" >/dev/null || start "$2" "${command[@]}" ;;
    *) usage 2 >&2 ;;
esac
