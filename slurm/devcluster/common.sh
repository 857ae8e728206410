# Sourced by the scripts beside it: where things are, and how to start and find the daemons of one dev cluster.

NODES="v100-1 v100-2 v100-3 v100-4"
export PATH="$PATH:/usr/sbin:/sbin"

die() { echo "devcluster: $1" >&2; exit "${2:-1}"; }
say() { echo "devcluster: $1" >&2; }
sibling() { printf %q "$(cd "$(dirname "$0")" && pwd)/$1"; } # the path of a script beside this one, for a shell
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit "${1:-0}"; }

# use_root FOLDER: names everything of the cluster that lives, or shall live, in FOLDER.
use_root() {
    root=$(realpath -m -- "$1")
    case $root in
        *[[:space:]\"\'\\,%#]*) die "$root: SLURM takes no blanks, quotes, commas, % or # in the paths of its own configuration" 2 ;;
        / | /bin* | /usr* | /etc* | /home | /root | /tmp | /var) die "$root is not a folder to throw away" 2 ;;
    esac
    [ ${#root} -le 80 ] || die "$root: too long, sockets in it could not be opened (80 letters at most)" 2
    conf=$root/etc/slurm.conf
    # Unique, so that every process of every job carries the mark of its own cluster: SLURM_CLUSTER_NAME.
    cluster=sedd_$(printf '%s' "$root" | cksum | cut -d' ' -f1)
    export SLURM_CONF=$conf
}

require_root() { [ "$(id -u)" = 0 ] || die "needs root: slurmd starts processes for other users. Try: sudo bash $(printf %q "$0")"; }

require_packages() {
    local missing="" program
    for program in munged slurmctld slurmd sinfo "$@"; do
        command -v "$program" >/dev/null || missing="$missing $program"
    done
    [ -z "$missing" ] || die "not installed:$missing. Run: bash $(sibling install.sh)"
}

exists() { [ -f "$root/.devcluster" ]; }

# pid_of NAME: the process id of a daemon that runs, from its pid file; fails when it does not.
pid_of() {
    local pid
    pid=$(cat "$root/run/$1.pid" 2>/dev/null) && is_ours "$pid" && echo "$pid"
}

# is_ours PID: the number alone could be another process by now, so its command line or environment must name
# our folder.
is_ours() { { cat "/proc/$1/cmdline" "/proc/$1/environ" | tr '\0' ' ' | grep -F -- "$root/" >/dev/null; } 2>/dev/null; }

wait_for() { # wait_for SECONDS COMMAND...: until the command succeeds
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}

# job_processes: ids of all processes of this cluster's jobs, orphans included, and of the daemons that start them.
job_processes() {
    local dir
    for dir in /proc/[0-9]*; do
        if { tr '\0' '\n' <"$dir/environ" | grep -x "SLURM_CLUSTER_NAME=$cluster" >/dev/null; } 2>/dev/null; then
            echo "${dir#/proc/}"
            continue
        fi
        # Titles overwrite environments, and a reconfigured slurmd has a new number: both stay in the folder of the logs.
        case $(readlink "$dir/exe" 2>/dev/null) in
            */slurmstepd | */slurmstepd-* | */slurmd | */slurmd-* | */slurmctld | */slurmctld-*) ;;
            *) continue ;;
        esac
        case $(readlink "$dir/cwd" 2>/dev/null) in "$root"/*) echo "${dir#/proc/}" ;; esac
    done
}

# Nothing of a job that we may be in may leak into the daemons.
forget_surrounding_job() {
    local name
    for name in $(env | sed -n 's/^\(SLURM_[A-Z_]*\)=.*/\1/p'); do [ "$name" = SLURM_CONF ] || unset "$name"; done
}

# start NAME COMMAND...: a daemon, under the name that choose_address decided on. It keeps none of our files open:
# the caller may be waiting for the end of our output.
start() {
    local name=$1
    shift
    [ "$own_name" = no ] || set -- unshare --uts sh -c 'hostname localhost && exec "$@"' sh "$@"
    "$@" >"$root/log/start-$name.log" 2>&1 </dev/null 9<&- || die "$name: $(tail -qn 1 "$root/log/start-$name.log" "$root/log/$name.log" 2>/dev/null | tail -n 1)"
}
