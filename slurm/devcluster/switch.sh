#!/usr/bin/env bash
# Change what the running throw-away SLURM does to jobs.
#
# usage: bash switch.sh user-signal on|off [FOLDER]      preempt_send_user_signal
#        bash switch.sh requeue on|off [FOLDER]          JobRequeue
#        bash switch.sh private-jobs on|off [FOLDER]     PrivateData=jobs: users see their own jobs only
# FOLDER: ${SEDD_DEVCLUSTER:-/tmp/sedd-devcluster}

set -euo pipefail
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/common.sh"

[ "${1:-}" != --help ] && [ "${1:-}" != -h ] || usage
[ $# -ge 2 ] || usage 2 >&2
use_root "${3:-${SEDD_DEVCLUSTER:-/tmp/sedd-devcluster}}"
exists || die "nothing in $root. Start it with: bash $(sibling up.sh) $root"
require_root
case "$1 $2" in
    "user-signal on") line=SlurmctldParameters=preempt_send_user_signal ;;
    "user-signal off") line=#SlurmctldParameters=preempt_send_user_signal ;;
    "requeue on") line=JobRequeue=1 ;;
    "requeue off") line=JobRequeue=0 ;;
    "private-jobs on") line=PrivateData=jobs ;;
    "private-jobs off") line=#PrivateData=jobs ;;
    *) usage 2 >&2 ;;
esac
name=${line%%=*}
sed "s/^#\{0,1\}${name#\#}=.*/$line/" "$conf" >"$conf.new"
mv "$conf.new" "$conf"
scontrol reconfigure
say "$line"
