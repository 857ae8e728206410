#!/usr/bin/env bash
# Install Debian's or Ubuntu's SLURM packages, for up.sh. Their services are not started.
#
# usage: bash install.sh

set -euo pipefail
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/common.sh"

case ${1:-} in
    "") ;;
    -h | --help) usage ;;
    *) die "unknown argument $1. See: bash $(printf %q "$0") --help" 2 ;;
esac
if command -v munged slurmctld slurmd slurmdbd mariadbd sbatch >/dev/null; then
    say "all packages are installed"
    exit 0
fi
command -v apt-get >/dev/null || die "needs Debian or Ubuntu: there is no apt-get here"
require_root

# Debian's way to install services without starting them; an administrator's own policy is left alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >&2
apt-get install -q -y --no-install-recommends munge slurmctld slurmd slurm-client slurmdbd mariadb-server >&2
say "installed SLURM $(slurmd -V | cut -d' ' -f2). Start it with: bash $(sibling up.sh)"
