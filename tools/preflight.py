#!/usr/bin/env python3
"""Is this machine ready to train? Needs nothing but Python 3.8: runs before anything is installed.

    python3 tools/preflight.py                     the installation alone
    python3 tools/preflight.py --gpu v100          the same, for cards that are not in this machine
    python3 tools/preflight.py jobs/uniref50_small.yaml --cluster slurm/v100.yaml
    python3 tools/preflight.py --node jobs/quickstart.yaml

Looks at Python, at every required package (installed, in range, and really importable), at the torch wheel (CUDA,
compiled architectures) and at the driver; with a spec, `sedd preflight` then goes on. Ends with READY TO TRAIN, or with
what is missing and the commands that mend it. Exit code 0 when ready, else 1.
"""

from __future__ import annotations

import argparse
import json
import mmap
import re
import shlex
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

PYTHON_FROM = (3, 11)
PROJECT = Path(__file__).resolve().parent.parent
CAPABILITIES = {
    "p100": 60,
    "v100": 70,
    "t4": 75,
    "a100": 80,
    "a40": 86,
    "l40": 89,
    "h100": 90,
    "h200": 90,
    "b200": 100,
}
NEWER_TORCH, V100_TORCH = "torch>=2.6,<2.14", "torch>=2.6,<2.11"  # the last holds sm_70 kernels
# Oldest driver for each CUDA major version; minor versions are compatible (CUDA release notes).
DRIVERS = {11: (450, 80), 12: (525, 60), 13: (580, 65)}
IMPORT_NAMES = {"pyyaml": "yaml", "nvidia-ml-py": "pynvml"}
IMPORT_LIMIT_S = 300
ARCH_LIST = re.compile(rb"(?:sm|compute)_\d+[af]?(?: (?:sm|compute)_\d+[af]?)*\0")

# Run in a Python of its own: an import may print, hang, crash, or take the process with it.
IMPORTING = r"""
import importlib, json, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        error = None
    except BaseException as e:
        error = (type(e).__name__ + ": " + str(e)).splitlines()[0]
    print("\n" + json.dumps([name, error]), flush=True)
"""


class Report:
    """Findings, printed as they come, and the commands that mend those that failed."""

    def __init__(self) -> None:
        self.has_failed = False
        self.mends: list[str] = []

    def add(self, status: str, check: str, saw: str, mend: str | None = None) -> None:
        print(f"{status:<7} {check:<12} {saw}", flush=True)
        self.has_failed |= status == "FAIL"
        if mend and mend not in self.mends:
            self.mends.append(mend)


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    report = Report()
    check_python(report)
    if not report.has_failed:
        wheel, gpus = read_wheel(), query_gpus()
        targets = (
            {options.gpu: CAPABILITIES[options.gpu]}
            if options.gpu
            else {g["name"]: g["capability"] for g in gpus}
        )
        check_packages(report, read_requirements(PROJECT / "pyproject.toml"), needs_v100(targets))
        check_wheel(report, wheel, targets)
        check_driver(report, wheel, gpus)
    if report.has_failed and options.spec:
        report.add("UNKNOWN", options.spec, "not looked at before the installation is right")
    if report.has_failed or not options.spec:
        return conclude(report)
    return hand_over(options)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spec", nargs="?", help="experiment spec: `sedd preflight` goes on with it")
    parser.add_argument("--cluster", help="cluster profile, such as slurm/v100.yaml")
    parser.add_argument("--node", action="store_true", help="check this machine as a compute node")
    parser.add_argument(
        "--gpu", choices=sorted(CAPABILITIES), help="the card to train on, if it is not in this machine"
    )
    options = parser.parse_args(arguments)
    options.gpu = options.gpu or card_of(options.cluster)
    if options.node and not options.spec:
        parser.error("--node needs a spec: what a node must be able to do depends on the job")
    return options


def card_of(cluster: str | None) -> str | None:
    """The card that a cluster profile names, `gpu: {type: v100}`; read without a YAML library, so None if in doubt."""
    try:
        text = Path(cluster).read_text(encoding="utf-8") if cluster else ""
    except OSError:  # `sedd preflight` will say so
        return None
    found = re.search(r"^gpu:.*?\btype:\s*[\"']?(\w+)", text, re.MULTILINE | re.DOTALL)
    return found[1] if found and found[1] in CAPABILITIES else None


def check_python(report: Report) -> None:
    version, wanted = (".".join(map(str, numbers)) for numbers in (sys.version_info[:3], PYTHON_FROM))
    if sys.version_info[:2] >= PYTHON_FROM:
        report.add("OK", "python", f"{version} at {sys.executable}")
        return
    mend = f"python{wanted} -m venv .venv    # `module load`, or the system's packages, have python{wanted}"
    report.add("FAIL", "python", f"{version} at {sys.executable}; {wanted} or later is needed", mend)


def check_packages(report: Report, required: dict[str, str], for_v100: bool) -> None:
    """Every dependency, and this project itself."""
    versions = {name: installed_version(name) for name in required}
    wrong = {name: "is not installed" for name, version in versions.items() if version is None}
    for name, version in versions.items():
        if version is not None and not in_range(version, required[name]):
            wrong[name] = f"{version} is outside {required[name]}"
    modules = {
        IMPORT_NAMES.get(name.lower(), name.replace("-", "_")): name for name in required if name not in wrong
    }
    wrong.update({modules[module]: error for module, error in import_errors(list(modules)).items() if error})
    is_installed = util.find_spec("sedd") is not None
    mend = reinstall(wrong, required) if is_installed else enter_environment() or install_project(for_v100)
    for name, problem in wrong.items():
        report.add("FAIL", name, problem, mend)
    if not is_installed:
        report.add("FAIL", "sedd", "this project is not installed in this Python", mend)
    elif not wrong:
        report.add("OK", "packages", f"all {len(required)} in range and importable")


def enter_environment() -> str | None:
    """The command for an environment that lies beside this folder, made before, and is not the one that runs this."""
    environment = PROJECT / ".venv"
    if not (environment / ".installed").is_file() or Path(sys.prefix) == environment:
        return None
    return f"source {shlex.quote(str(environment / 'bin' / 'activate'))}"


def check_wheel(report: Report, wheel: dict | None, targets: dict[str, int]) -> None:
    """Does the installed torch hold kernels for the cards?"""
    if wheel is None:
        return
    build = f"torch {wheel['version']} ({'CUDA ' + wheel['cuda'] if wheel['cuda'] else 'CPU only'})"
    mend = pip("--force-reinstall", V100_TORCH if needs_v100(targets) else NEWER_TORCH)
    if not targets:
        report.add("OK", "torch wheel", f"{build}; no GPU here, --gpu v100 asks for one")
    elif not wheel["cuda"]:
        report.add("FAIL", "torch wheel", f"{build} trains on no GPU", mend)
    elif wheel["archs"] is None:
        report.add("UNKNOWN", "torch wheel", f"{build}: its list of architectures was not found")
    else:
        held = " ".join(f"sm_{arch}" for arch in wheel["archs"])
        for name, capability in targets.items():
            if any(arch // 10 == capability // 10 and arch <= capability for arch in wheel["archs"]):
                report.add("OK", "torch wheel", f"{build} has kernels for {name} (sm_{capability})")
            else:
                report.add(
                    "FAIL", "torch wheel", f"{build} has none for {name} (sm_{capability}), only {held}", mend
                )


def check_driver(report: Report, wheel: dict | None, gpus: list[dict]) -> None:
    """Is the driver new enough for the wheel's CUDA?"""
    if not gpus:
        return
    saw = f"{gpus[0]['driver']}, {len(gpus)} x {', '.join(sorted({gpu['name'] for gpu in gpus}))}"
    needed = DRIVERS.get(int(wheel["cuda"].split(".")[0])) if wheel and wheel["cuda"] else None
    if needed is None or tuple(numbers(gpus[0]["driver"])[:2]) >= needed:
        report.add("OK", "driver", saw)
        return
    oldest = ".".join(map(str, needed))
    mend = f"# ask the site for driver {oldest} or later, or try: {pip('--force-reinstall', V100_TORCH)}"
    report.add("FAIL", "driver", f"{saw}; CUDA {wheel['cuda']} needs {oldest} or later", mend)


def read_requirements(pyproject: Path) -> dict[str, str]:
    """Package to range, of the project's dependencies; tomllib is younger than Python 3.8."""
    block = re.search(r"^dependencies\s*=\s*\[(.*?)^\]", pyproject.read_text(encoding="utf-8"), re.M | re.S)
    lines = re.findall(r'^\s*"([A-Za-z0-9._-]+)([^"]*)"', block.group(1) if block else "", re.M)
    return {name: wanted.replace(" ", "") for name, wanted in lines}


def read_wheel() -> dict | None:
    """Version, CUDA and architectures of the torch that would be imported, read off its files; None without one."""
    found = util.find_spec("torch")
    if found is None or not found.origin:
        return None
    folder = Path(found.origin).parent
    text = (folder / "version.py").read_text(encoding="utf-8")
    fields = dict(re.findall(r"^(__version__|cuda)\b[^=]*=\s*'([^']*)'", text, re.M))
    archs = read_archs(folder / "lib" / "libtorch_python.so")
    return {"version": fields.get("__version__", "?"), "cuda": fields.get("cuda"), "archs": archs}


def read_archs(library: Path) -> list[int] | None:
    """[70, 75, ...] from the C string `sm_70 sm_75 ...` that torch's build left in its library; None if not found."""
    try:
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            start = content.find(b"\0sm_")
            while start >= 0:
                match = ARCH_LIST.match(content, start + 1)
                if match:
                    return [int(number) for number in re.findall(rb"sm_(\d+)", match.group())]
                start = content.find(b"\0sm_", start + 1)
    except (OSError, ValueError):  # ValueError: an empty file cannot be mapped
        return None
    return None


def query_gpus() -> list[dict]:
    """Name, driver and capability of each card that nvidia-smi shows; empty without one."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        said = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(", ") for line in said.decode(errors="replace").splitlines()]
    named = [row for row in rows if len(row) == 3 and re.match(r"\d+\.\d+$", row[2])]
    return [{"name": row[0], "driver": row[1], "capability": int(row[2].replace(".", ""))} for row in named]


def import_errors(modules: list[str]) -> dict[str, str | None]:
    """What each module says when it is imported; None where it works."""
    command = [sys.executable, "-c", IMPORTING, *modules]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=IMPORT_LIMIT_S
        )
        said, ending = done.stdout, f"Python ended with code {done.returncode} while importing it"
    except subprocess.TimeoutExpired as e:
        said, ending = e.stdout or b"", f"its import took more than {IMPORT_LIMIT_S} s"
    results: dict[str, str | None] = {}
    for line in said.decode(errors="replace").splitlines():
        try:
            name, error = json.loads(line)
        except (ValueError, TypeError):
            continue  # what a package prints on import
        results[name] = error
    unfinished = [name for name in modules if name not in results]
    return {**results, unfinished[0]: ending} if unfinished else results


def installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def in_range(version: str, wanted: str) -> bool:
    """Whether `2.10.0+cu128` is in `>=2.6,<2.14`."""
    clauses = re.findall(r"(>=|<=|==|<|>)([\d.]+)", wanted)
    return all(holds(numbers(version), kind, numbers(bound)) for kind, bound in clauses)


def holds(version: list[int], kind: str, bound: list[int]) -> bool:
    width = max(len(version), len(bound))
    a, b = (part + [0] * (width - len(part)) for part in (version, bound))
    return {">=": a >= b, "<=": a <= b, "==": a == b, "<": a < b, ">": a > b}[kind]


def numbers(version: str) -> list[int]:
    return [int(part) for part in re.match(r"[\d.]*", version).group().split(".") if part]


def needs_v100(targets: dict[str, int]) -> bool:
    return any(capability < 75 for capability in targets.values())


def pip(*arguments: str) -> str:
    return " ".join([shlex.quote(sys.executable), "-m pip install", *map(shlex.quote, arguments)])


def reinstall(wrong: dict[str, str], required: dict[str, str]) -> str:
    return pip("--upgrade", "--force-reinstall", *(name + required[name] for name in wrong))


def install_project(for_v100: bool) -> str:
    what = str(PROJECT) + ("[volta]" if for_v100 else "")
    if sys.prefix != sys.base_prefix:
        return pip("-e", what)
    venv = shlex.quote(str(PROJECT / ".venv"))  # a system's Python often refuses pip
    return f"{shlex.quote(sys.executable)} -m venv {venv} && {venv}/bin/pip install -e {shlex.quote(what)}"


def hand_over(options: argparse.Namespace) -> int:
    command = [sys.executable, "-m", "sedd", "preflight", options.spec]
    command += ["--cluster", options.cluster] if options.cluster else []
    return subprocess.run([*command, *(["--node"] if options.node else [])]).returncode


def conclude(report: Report) -> int:
    if not report.has_failed:
        print("READY TO TRAIN")
        return 0
    print("NOT READY. What mends it:")
    for mend in report.mends:
        print(f"  {mend}")
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
