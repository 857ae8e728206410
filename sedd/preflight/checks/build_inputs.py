"""What a data task reads and where it writes: FASTA files that are there, and room for the store."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from sedd.errors import MissingDataError, SeddError
from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok
from sedd.preflight.read.filesystem import existing, query_space, unreadable
from sedd.spec.build import BuildOptions, BuildSpec, DataTask
from sedd.spec.inference import options_of
from sedd.spec.option_keys import as_keys
from sedd.units import format_bytes

# Of UniRef50: bytes of store (and its parts, for a while both) for a byte of FASTA, and FASTA for a byte of gzip.
_STORE_SHARE, _GZIP_RATIO = 1.0, 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    inputs: int
    input_bytes: int
    problem: str | None
    """Why an input cannot be read."""
    place: Path
    """Folder of the store, or its nearest parent that exists."""
    may_write: bool
    free_bytes: int
    needed_bytes: int
    """By experience; 0 where the store is there already."""
    table_problem: str | None = None
    """Why a table, or the store that it begins with, cannot be read."""
    misfit: str | None = None
    """Why the first lines of the tables, or that store, do not fit what is asked."""
    misfit_hint: str | None = None
    obstacle: str | None = None
    """Why what lies where the store is to be is not what would be built."""
    is_read_only: bool = False
    """Whether the place is in a file system that nobody writes to from here."""


def gather(context: CheckContext) -> Facts | None:
    build = context.experiment.build if isinstance(context.experiment, DataTask) else None
    if build is None:
        return None
    sizes = {path: path.stat().st_size for path in build.inputs if path.is_file()}
    table_problem = unreadable(filter(None, (build.clusters, build.labels)))
    misfit = None if table_problem else _misfit(build)
    if misfit and (isinstance(misfit, MissingDataError) or isinstance(misfit.__cause__, OSError)):
        table_problem, misfit = misfit.message, None
    is_readable = len(sizes) == len(build.inputs) and table_problem is None
    place = existing(build.store.parent)
    space = query_space(place)
    return Facts(
        inputs=len(build.inputs),
        input_bytes=sum(sizes.values()),
        problem=unreadable(build.inputs),
        place=place,
        may_write=os.access(place, os.W_OK),
        free_bytes=space.free_bytes,
        is_read_only=space.is_read_only,
        needed_bytes=0 if build.store.exists() else sum(map(_store_bytes, sizes, sizes.values())),
        table_problem=table_problem,
        misfit=misfit.message if misfit else None,
        misfit_hint=as_keys(misfit.hint, "data") if misfit else None,
        obstacle=_obstacle(build) if is_readable else None,
    )


def _misfit(build: BuildSpec) -> SeddError | None:
    """What the build would refuse before it reads anything whole."""
    from sedd.data.first_look import require_fit_options

    try:
        require_fit_options(options_of(BuildOptions, build))
    except SeddError as e:
        return e
    return None


def _obstacle(build: BuildSpec) -> str | None:
    """What the build would refuse to replace."""
    from sedd.data.reuse import find_obstacle

    try:
        return find_obstacle(build.store, list(build.inputs), options_of(BuildOptions, build))
    except SeddError as e:
        return e.message


def judge(facts: Facts) -> Verdict:
    if facts.problem:
        return fail(
            facts.problem, "download UniRef50 with: python3 tools/fetch_uniref50.py -o uniref50.fasta.gz"
        )
    if facts.table_problem:
        return fail(
            facts.table_problem,
            "build.clusters, build.labels, build.onto: paths are from the spec's own folder",
        )
    if facts.misfit:
        return fail(
            facts.misfit,
            facts.misfit_hint or "look at build.clusters, build.labels, build.label_numbers and build.onto",
            Fault.JOB,
        )
    if facts.obstacle:
        return fail(facts.obstacle, "name another build.store, or remove what is there", Fault.JOB)
    if not facts.may_write:
        return fail(
            f"cannot write in {facts.place}",
            "build.store must lie in a folder where your user may write",
            Fault.NODE if facts.is_read_only else Fault.JOB,
        )
    saw = f"{format_bytes(facts.free_bytes)} free in {facts.place}"
    if facts.free_bytes < facts.needed_bytes:
        return fail(
            saw,
            f"the store needs about {format_bytes(facts.needed_bytes)}: put build.store on a larger disk",
            Fault.DISK,
        )
    files = f"{facts.inputs} input{'s' if facts.inputs > 1 else ''}"
    return ok(f"{files} of {format_bytes(facts.input_bytes)}; {saw}")


def _store_bytes(path: Path, size: int) -> int:
    return int(size * _STORE_SHARE * (_GZIP_RATIO if path.suffix == ".gz" else 1.0))


_GOOD = Facts(
    inputs=1,
    input_bytes=11 << 30,
    problem=None,
    place=Path("/scratch/data"),
    may_write=True,
    free_bytes=90 << 30,
    needed_bytes=28 << 30,
)

CHECK = Check(
    tasks=(DataTask,),
    reads=(("build", "inputs"), ("build", "clusters"), ("build", "labels"), ("build", "onto")),
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.FILES,
    catches="FASTA files and tables that are not there, tables that do not fit, another store in the way, a disk too "
    "small for the store",
    takes="0.3 s",
    passing=_GOOD,
    failing=replace(_GOOD, free_bytes=9 << 30),
)
