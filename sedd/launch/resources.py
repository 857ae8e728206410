"""Parameters for submitit and sbatch, from an experiment and a profile. Pure."""

import itertools
import math
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sedd.cluster.jobs import JobFact
from sedd.cluster.profile import STORED, LocalProfile, Profile, SlurmProfile, read_profile
from sedd.errors import SpecError
from sedd.launch.protocol import FORMAT, NAMES, Names
from sedd.launch.setup_lines import setup_lines
from sedd.rundir.layout import RunDir, read_manifest
from sedd.spec.task import TaskSpec
from sedd.units import exact_duration
from sedd.yaml import Document

FOREVER_MIN = 10 * 365 * 24 * 60
"""For submitit's own local time limit, which would kill; the job entry keeps the walltime itself."""
UNLIMITED = 1_000_000
"""Array tasks at a time where the spec sets no limit; submitit's own default would be 256."""
_SECRET = re.compile(
    r"(?<![A-Za-z0-9_])((?:\w*_)?(?:API_?KEY|TOKEN|SECRET|PASSWORD|PASSWD)(?:_\w*)?)\s*=\s*[^\s$]",
    re.IGNORECASE,
)

Parameters = dict[str, Any]


def slurm_parameters(
    experiment: TaskSpec,
    profile: SlurmProfile,
    *,
    code: Path,
    submitit: Path,
    parallel: int | None = None,
    save_s: float | None = None,
    dependency: str | None = None,
    names: Names = NAMES[FORMAT],
) -> Parameters:
    """Parameters of submitit's SlurmExecutor, and `python`, with which it is made.

    `submitit` is the folder of its files, `parallel` the number of array tasks at a time, `save_s` a measured
    checkpoint time, `dependency` what sbatch shall wait for, `names` what the frozen code calls its modules.
    """
    wishes = experiment.resources
    profile = profile.for_job(gpus_per_node=wishes.gpus_per_node)
    walltime_s = granted_walltime_s(experiment, profile)
    lead_s = signal_lead_s(walltime_s, save_s)
    python = profile.python or shlex.quote(sys.executable)
    last_line = f"SEDD_STEP_EXIT=$? {python} -m {names.batch_end} {shlex.quote(str(submitit))}"
    wanted: Parameters = {
        "python": python,
        "job_name": experiment.name,
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "constraint": profile.constraint,
        "exclude": profile.exclude,
        "dependency": dependency,
        "time": math.ceil(walltime_s / 60),
        "nodes": wishes.all_nodes,
        "ntasks_per_node": wishes.ranks_per_node,
        "cpus_per_task": wishes.cpus_per_process,
        "gres": _gres(wishes.gpus_per_node, profile.gpu.type),
        "mem": f"{math.ceil(wishes.memory / 2**20)}M",
        "mail_user": profile.mail.user if profile.mail else None,
        "mail_type": ",".join(profile.mail.type) if profile.mail else None,
        "signal_delay_s": lead_s,
        "array_parallelism": parallel or UNLIMITED,
        "stderr_to_stdout": True,
        "setup": setup_lines(profile, code=code, lead_s=lead_s, last_line=last_line),
        "teardown": [last_line],
        # Since 22.05 srun no longer takes --cpus-per-task over from sbatch.
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={wishes.cpus_per_process}"],
        # The signal is submitit's wish too, which an environment variable changes (SUBMITIT_PREEMPT_SIGNAL).
        "additional_parameters": _raw_options(profile) | {"requeue": True, "signal": f"USR2@{lead_s}"},
    }
    given = {key: value for key, value in wanted.items() if value is not None}
    return given | {"wckey": None}  # submitit sets one that sites with a list of wckeys refuse


def local_parameters(experiment: TaskSpec, environment: Mapping[str, str]) -> Parameters:
    """Parameters of submitit's LocalExecutor: one task, which starts all ranks.

    The first cards of `CUDA_VISIBLE_DEVICES` are its cards, by whatever names they have there: numbers, UUIDs, MIG.

    Raises:
        SpecError: more than one node, spare ones, or more GPUs than `CUDA_VISIBLE_DEVICES` names.
    """
    wishes = experiment.resources
    if wishes.nodes > 1:
        raise SpecError(
            f"resources.nodes is {wishes.nodes}: this machine is one node",
            hint="--cluster PROFILE names a SLURM site; or --set resources.nodes=1",
        )
    if wishes.spare_nodes:
        raise SpecError(
            f"resources.spare_nodes is {wishes.spare_nodes}: this machine is one node",
            hint="--cluster PROFILE names a SLURM site; or --set resources.spare_nodes=0",
        )
    parameters: Parameters = {
        "timeout_min": FOREVER_MIN,
        "tasks_per_node": 1,
        "gpus_per_node": wishes.gpus_per_node,
        "stderr_to_stdout": True,
    }
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if wishes.gpus_per_node and visible is not None:
        parameters["visible_gpus"] = _chosen_cards(visible, wishes.gpus_per_node)
    return parameters


def granted_walltime_s(experiment: TaskSpec, profile: Profile) -> int:
    """The walltime of one attempt: what the spec asks for, at most what the site grants."""
    asked = experiment.resources.walltime
    longest = profile.max_walltime if isinstance(profile, SlurmProfile) else None
    return asked if longest is None else min(asked, longest)


def signal_lead_s(walltime_s: int, save_s: float | None = None) -> int:
    """Seconds before the time limit at which SLURM warns the job: four measured checkpoint times and half a minute.

    Two minutes without a measurement; never more than a quarter of the walltime.
    """
    lead = 120.0 if save_s is None else 30 + 4 * save_s
    return max(1, min(math.ceil(lead), walltime_s // 4))


def changes_by_site(parameters: Parameters, job: JobFact) -> Iterator[str]:
    """What SLURM has on record otherwise than it was asked for: `the time limit is 12h, not 24h`."""
    partitions = parameters.get("partition")
    if partitions and job.partition and not {*job.partition.split(",")} <= {*str(partitions).split(",")}:
        yield f"the partition is {job.partition}, not {partitions}"
    asked_s, limit_s = int(parameters["time"]) * 60, job.time_limit_s
    if limit_s is not None and limit_s != asked_s:
        yield f"the time limit is {exact_duration(limit_s)}, not {exact_duration(asked_s)}"
    if job.may_requeue is False:
        yield "it may not be requeued: after a preemption or a time limit a new job continues the run"


def render_sbatch(parameters: Parameters, *, submitit: Path, tasks: int) -> str:
    """The batch script that submitit would hand to sbatch, for a job or for an array of `tasks`."""
    # The one place that uses a private name of submitit: its executor refuses to exist where there is no srun.
    from submitit.slurm.slurm import _make_sbatch_string

    asked = dict(parameters)
    command = f"{asked.pop('python')} -u -m submitit.core._submit {shlex.quote(str(submitit))}"
    count = {"map_count": tasks} if tasks > 1 else {}
    return str(_make_sbatch_string(command=command, folder=submitit, **asked, **count))


def read_manifest_profile(run: RunDir) -> Profile:
    """The profile with which a run was submitted. Raises: RunError, SpecError on a damaged manifest."""
    document = Document(name=str(run.manifest), data=read_manifest(run).get("profile", {}), lines={})
    return read_profile(document, context=STORED)


def require_no_secrets(profile: Profile) -> None:
    """Keep keys out of manifests and batch scripts, which hold the profile's lines. Raises: SpecError."""
    if isinstance(profile, LocalProfile):
        return
    for text in (*profile.setup, *map(str, profile.sbatch.values())):
        if found := _SECRET.search(text):
            raise SpecError(
                f"the profile sets {found[1]}: it would be copied into every run folder",
                hint="jobs inherit your environment, and `wandb login` keeps its key in your home",
            )


def require_plain_path(path: Path) -> None:
    """Raises: SpecError for characters that cannot stand in PYTHONPATH or in SLURM's file names."""
    if bad := sorted({c for c in str(path) if c in ":%\\\n"}):
        raise SpecError(
            f"runs cannot live in {str(path)!r}: it holds {bad[0]!r}", hint="set SEDD_RUNS to another folder"
        )


def _raw_options(profile: SlurmProfile) -> dict[str, str | int | bool]:
    """The profile's further options. Raises: SpecError where an older version sent the run to another cluster."""
    if cluster := profile.sbatch.get("clusters"):
        raise SpecError(
            f"the run was submitted with `sbatch: {{clusters: {cluster}}}`, and is not known here",
            hint="submit its spec anew, on a login node of that cluster",
        )
    return profile.sbatch


def named_cards(visible: str) -> tuple[str, ...]:
    """The cards that a value of `CUDA_VISIBLE_DEVICES` names, up to the first that means none."""
    named = (card.strip() for card in visible.split(","))
    return tuple(itertools.takewhile(lambda card: card not in ("", "-1", "NoDevFiles"), named))


def _chosen_cards(visible: str, count: int) -> tuple[str, ...]:
    """The first `count` cards of `CUDA_VISIBLE_DEVICES`. Raises: SpecError when it names fewer."""
    cards = named_cards(visible)
    if len(cards) < count:
        raise SpecError(
            f"resources asks for {count} GPU{'s' if count > 1 else ''}, and CUDA_VISIBLE_DEVICES={visible!r} "
            f"shows {len(cards) or 'none'}",
            hint="unset CUDA_VISIBLE_DEVICES, or name as many cards in it",
        )
    return cards[:count]


def _gres(gpus: int, kind: str | None) -> str | None:
    return None if not gpus else f"gpu:{kind}:{gpus}" if kind else f"gpu:{gpus}"
