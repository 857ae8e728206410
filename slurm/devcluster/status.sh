#!/usr/bin/env bash
# Say what of the throw-away SLURM is running.
#
# usage: bash status.sh [--export] [FOLDER]      FOLDER: ${SEDD_DEVCLUSTER:-/tmp/sedd-devcluster}
#   --export   print only the line that points SLURM's commands to it, for eval
# Exit code 0: all of it runs; 1: some of it, or nothing.

set -euo pipefail
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/common.sh"

export_only=no folder=
for argument in "$@"; do
    case $argument in
        --export) export_only=yes ;;
        -h | --help) usage ;;
        -*) die "unknown option $argument. See: bash $(printf %q "$0") --help" 2 ;;
        *) folder=$argument ;;
    esac
done

main() {
    local name pid code=0 names="munged slurmctld"
    use_root "${folder:-${SEDD_DEVCLUSTER:-/tmp/sedd-devcluster}}"
    exists || die "nothing in $root. Start it with: bash $(sibling up.sh) $root"
    if [ $export_only = yes ]; then
        echo "export SLURM_CONF=$conf"
        return
    fi
    [ ! -f "$root/etc/slurmdbd.conf" ] || names="$names mariadbd slurmdbd"
    for name in $names $(printf 'slurmd-%s ' $NODES); do
        if pid=$(pid_of "$name"); then printf '%-16s running, process %s\n' "$name" "$pid"; else
            printf '%-16s not running\n' "$name"
            code=1
        fi
    done
    grep -E '^#?(SlurmctldParameters|JobRequeue|MaxArraySize|KillWait)=' "$conf"
    sinfo --format='%9P %.5a %.11l %.6D %.10T %N' || code=1
    squeue --format='%.10i %.9P %.20j %.10T %.10M %R' || code=1
    return $code
}

main
