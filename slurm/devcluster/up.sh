#!/usr/bin/env bash
# Start a throw-away SLURM on this machine: 4 nodes v100-1 … v100-4, each with 4 CPUs and 4 fake V100s.
# Starts only what is not running, so it also brings back a daemon that was killed.
#
# usage: eval "$(bash up.sh [options] [FOLDER])"      FOLDER: ${SEDD_DEVCLUSTER:-/tmp/sedd-devcluster}
#   --dbd                accounting: MariaDB and slurmdbd, so that sacct works
#   --limits             the same, and jobs beyond a limit that sacctmgr sets are refused (AccountingStorageEnforce=limits);
#                        you get the account dev
#   --user-signal        preempted jobs first get the signal they asked for (preempt_send_user_signal)
#   --no-requeue         a site that forbids requeueing (JobRequeue=0)
#   --max-array-size N   default 1001
#   --max-job-count N    jobs that SLURM keeps in all, default 10000
#   --kill-wait S        seconds from SIGTERM to SIGKILL, default 30
#   --requeue-delay S    seconds for which a requeued job is held back, default 120
#   --node-timeout S     seconds after which a node that does not answer is down, default 20
# Prints the line that points SLURM's commands to it (export SLURM_CONF=…); all else goes to stderr.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"

dbd=no limits=no user_signal=no job_requeue=1 max_array_size=1001 max_job_count=10000 kill_wait=30 requeue_delay=120 node_timeout=20 folder= options=0
while [ $# -gt 0 ]; do
    case $1 in --*) options=$((options + 1)) ;; esac
    case $1 in
        --dbd) dbd=yes ;;
        --limits) dbd=yes limits=yes ;;
        --user-signal) user_signal=yes ;;
        --no-requeue) job_requeue=0 ;;
        --max-array-size | --max-job-count | --kill-wait | --requeue-delay | --node-timeout)
            [[ ${2:-} =~ ^[0-9]+$ ]] || die "$1 needs a whole number" 2
            name=${1#--}
            declare "${name//-/_}=$2"
            shift ;;
        -h | --help) usage ;;
        -*) die "unknown option $1. See: bash $(printf %q "$0") --help" 2 ;;
        *) [ -z "$folder" ] || die "one folder only, not '$folder' and '$1'" 2; folder=$1 ;;
    esac
    shift
done

main() {
    use_root "${folder:-${SEDD_DEVCLUSTER:-/tmp/sedd-devcluster}}"
    require_root
    [ -f "$root/etc/slurmdbd.conf" ] && dbd=yes
    if [ $dbd = yes ]; then require_packages slurmdbd mariadbd; else require_packages; fi
    # One cluster at a time looks for free ports and takes them; /tmp is there for all, and only its lock is used.
    exec 9</tmp
    flock --timeout 180 9 || die "other dev clusters have been starting for three minutes"
    if exists; then
        [ $options = 0 ] || say "$root exists: it keeps the options that it was made with"
        [ -f "$root/etc/address" ] || die "$root is half made. Remove it with: bash $(sibling down.sh) $root"
        . "$root/etc/address"
    else
        [ ! -e "$root" ] || [ -z "$(ls -A "$root")" ] || die "$root has other things in it" 2
        choose_address
        . "$here/configure.sh"
        make_folders
        make_gpus
        write_configuration
    fi
    start_daemons
    wait_for 90 all_nodes_ready || die "nodes did not come up: $(sinfo -h -N -o '%N %T %E' 2>&1 | tail -n 1). See $root/log"
    say "up in $SECONDS s. Stop it with: bash $(sibling down.sh) $root"
    echo "export SLURM_CONF=$conf"
}

# Sets host and address: what the daemons listen on. They listen where the machine's own name resolves to. If that
# is not a loopback address they get a name space in which the machine is called localhost.
choose_address() {
    host=$(hostname)
    address=$(getent ahostsv4 "$host" | awk 'NR == 1 {print $1}') || address=
    case $address in
        127.*) own_name=no ;;
        *)
            if unshare --uts true 2>/dev/null; then
                host=localhost address=127.0.0.1 own_name=yes
            else
                [ -n "$address" ] || die "the name of this machine, $host, has no address: add it to /etc/hosts"
                own_name=no
                say "this container's own address, $address, is listened on (not loopback only)"
            fi ;;
    esac
}

start_daemons() {
    local node
    forget_surrounding_job
    pid_of munged >/dev/null || start_munged
    if [ $dbd = yes ]; then
        pid_of mariadbd >/dev/null || start_mariadb
        pid_of slurmdbd >/dev/null || start_slurmdbd
    fi
    pid_of slurmctld >/dev/null || start slurmctld slurmctld -f "$conf"
    for node in $NODES; do
        pid_of "slurmd-$node" >/dev/null || start "slurmd-$node" slurmd -f "$conf" -N "$node"
    done
}

start_munged() {
    rm -f "$root/run/munge.socket"*
    start munged munged --key-file="$root/etc/munge.key" --socket="$root/run/munge.socket" --num-threads=2 \
        --pid-file="$root/run/munged.pid" --log-file="$root/log/munged.log" --seed-file="$root/state/munge.seed"
}

start_mariadb() {
    [ -d "$root/mysql/mysql" ] || mariadb-install-db --no-defaults --user=root --datadir="$root/mysql" \
        --auth-root-authentication-method=socket --skip-test-db >"$root/log/mariadb-install.log" 2>&1 ||
        die "mariadb-install-db: $(tail -n 1 "$root/log/mariadb-install.log")"
    setsid mariadbd --no-defaults --user=root --datadir="$root/mysql" --socket="$root/run/mysql.socket" --skip-networking \
        --pid-file="$root/run/mariadbd.pid" --innodb-buffer-pool-size=32M >"$root/log/mariadbd.log" 2>&1 </dev/null 9<&- &
    wait_for 20 mariadb-admin --no-defaults --socket="$root/run/mysql.socket" ping || die "MariaDB does not answer: see $root/log/mariadbd.log"
}

start_slurmdbd() {
    # The client library takes its socket from the environment; slurmdbd.conf has no field for it.
    MYSQL_UNIX_PORT=$root/run/mysql.socket start slurmdbd slurmdbd
    wait_for 20 sacctmgr --noheader show cluster || die "slurmdbd does not answer: see $root/log/slurmdbd.log"
    sacctmgr --immediate add cluster "$cluster" >/dev/null 2>&1 || true
    grep -q ^AccountingStorageEnforce "$conf" || return 0
    # Where limits are enforced, SLURM refuses every job of a user without an account.
    sacctmgr --immediate add account dev >/dev/null 2>&1 || true
    sacctmgr --immediate add user "$(id -un)" Account=dev DefaultAccount=dev >/dev/null 2>&1 || true
}

# Drained nodes, too, are there; * marks one that does not answer.
all_nodes_ready() { [ "$(sinfo --noheader --Node --partition=urgent --format=%T | grep -cvE 'down|unknown|\*$')" = 4 ]; }

main
