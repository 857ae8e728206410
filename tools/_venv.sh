# Sourced by the scripts of this folder: the project's own Python environment, .venv.
#
#   . "$(dirname "${BASH_SOURCE[0]}")/_venv.sh"
#   use_venv [EXTRA…]        makes .venv, installs what pyproject.toml asks for, puts it first on the PATH
#
# Quick when nothing changed since the last call: .venv/.installed names what is there. Sets $root and $venv.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

use_venv() {
    _require_python
    if ! "$venv/bin/python" -c 'import pip' 2>/dev/null || ! grep -qsxF "$(_place)" "$venv/.installed"; then
        say "making $venv"
        "${PYTHON:-python3}" -m venv "$venv" || die "cannot make $venv: remove that folder and try again"
        _place >"$venv/.installed"
    fi
    export VIRTUAL_ENV=$venv PATH="$venv/bin:$PATH"
    unset PYTHONHOME
    local extra
    for extra in base "$@"; do
        grep -qxF "$extra $(_wanted)" "$venv/.installed" || { _install "$@"; return; }
    done
}

say() { printf '%s\n' "$*" >&2; }

die() { # die MESSAGE [EXIT CODE]
    printf 'error: %s\n' "$1" >&2
    exit "${2:-1}"
}

_require_python() {
    local python=${PYTHON:-python3}
    command -v "$python" >/dev/null || die "there is no $python here: apt-get install python3 python3-venv"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$("$python" -V) is too old: 3.11 or newer is needed; PYTHON=/path/to/python3.x names another"
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        die "this Python cannot make environments: apt-get install python3-venv"
}

_place() { # an environment that was moved, or whose Python was replaced, is made again
    printf '%s %s\n' "$("${PYTHON:-python3}" -c 'import sys; print(*sys.version_info[:2], sep=".")')" "$venv"
}

_wanted() { printf '%s %s' "$(cksum <"$root/pyproject.toml")" "${SEDD_TORCH:-}"; }

_install() {
    local extra extras line kept torch=${SEDD_TORCH:-}
    extras=$(IFS=,; printf '%s' "$*")
    say "installing into $venv (the first time this takes minutes: PyTorch is large)"
    # This replaces what was installed for another SEDD_TORCH or pyproject.toml.
    kept=$(_place)
    while IFS= read -r line; do
        [[ $line != *" $(_wanted)" ]] || kept+=$'\n'$line
    done <"$venv/.installed"
    printf '%s\n' "$kept" >"$venv/.installed"
    # An administrator's or user's pip settings for installs outside environments do not belong in here.
    export PIP_USER=0
    [ -z "$torch" ] || "$venv/bin/python" -m pip install "$torch" >&2 || die "cannot install $torch"
    (cd "$root" && "$venv/bin/python" -m pip install --editable ".${extras:+[$extras]}" >&2) ||
        die "pip could not install; its last lines say why. The next call goes on from here"
    for extra in base "$@"; do
        printf '%s %s\n' "$extra" "$(_wanted)" >>"$venv/.installed"
    done
}
