"""A profile says where jobs run: a SLURM site, or this machine. Users edit it as YAML (`slurm/*.yaml`)."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from sedd.cluster.sbatch_options import problem_with
from sedd.config.settings import NotifySettings
from sedd.config.user_config import config_file, config_path, read_user_config
from sedd.errors import SpecError, did_you_mean
from sedd.home import expand_home
from sedd.yaml import Bytes, Document, Duration, StrictModel, load_document, validate

WandbMode = Literal["online", "offline", "disabled"]
MailEvent = Literal[
    "BEGIN", "END", "FAIL", "REQUEUE", "TIME_LIMIT", "TIME_LIMIT_80", "TIME_LIMIT_90", "ARRAY_TASKS", "ALL"
]


STORED = "stored"
"""Validation context of a profile that a run was submitted with: what it asks for is not judged anew."""


class Gpu(StrictModel):
    """The cards of the partition."""

    type: str | None = None
    """The type's name in SLURM's Gres, such as `v100`; nothing asks for a card of any type."""
    memory: Bytes | None = None
    """Memory of one card, such as `32GiB`: preflight compares it with what the model needs."""


class CpuNodes(StrictModel):
    """Where the site runs jobs without GPUs; replaces the profile's own for those."""

    partition: str
    """Partition, or several with commas."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Node features to ask for."""


class Mail(StrictModel):
    """Mail that SLURM sends about a job."""

    user: str
    """Address, or user name at the site."""
    type: tuple[MailEvent, ...] = ("END", "FAIL")
    """The events that are worth a mail."""


class SlurmProfile(StrictModel):
    """A SLURM site."""

    executor: Literal["slurm"]
    """SLURM, through submitit."""
    partition: str | None = None
    """Partition, or several with commas; nothing is the site's default."""
    account: str | None = None
    """Account to charge."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Node features to ask for, such as `v100-32g`."""
    exclude: str | None = None
    """Nodes never to use, such as `node[03,17]`."""
    gpu: Gpu = Gpu()
    """The cards of the partition."""
    cpu: CpuNodes | None = None
    """Where jobs without GPUs go, such as `task: data`; nothing sends them where the others go."""
    requeue: bool | None = None
    """Whether a job that must leave keeps its id (true: requeued, two minutes of pause) or a new job continues its run
    at once (false); nothing: it is requeued, and a new job takes its place unless it is one of an array."""
    max_walltime: Duration | None = None
    """Longest time limit that the site grants; a longer `resources.walltime` is cut down to it."""
    mail: Mail | None = None
    """Mail about jobs; nothing sends none."""
    setup: tuple[str, ...] = ()
    """Shell lines run on the node before Python: `module load …`, `source …/activate`."""
    setup_must_succeed: bool = True
    """Whether a line of `setup` that fails ends the run; false: it is reported, and the run continues."""
    python: str | None = None
    """Python on the node, looked for after `setup`: `python`; nothing is the one that submits, by its full path."""
    container: str | None = None
    """Apptainer image in which Python runs on the node."""
    scratch: str | None = None
    """Fast folder of the node itself, such as `/scratch/$USER`; becomes TMPDIR of the job."""
    stage: str | None = None
    """Folder of the node, such as `$SLURM_TMPDIR`, to which token stores are copied first; nothing copies none."""
    local_checkpoints: str | None = None
    """Folder of the node for copies of the training state; nothing takes the first with room of `$SLURM_TMPDIR`,
    `$TMPDIR`, `/tmp` and `/dev/shm`."""
    wandb: WandbMode | None = None
    """wandb mode on the nodes, `offline` where they have no network; nothing leaves it to the spec."""
    notify: NotifySettings | None = Field(default=None, exclude=True)
    """Whom to tell how runs end; nothing leaves it to ~/.config/sedd/config.yaml. It stays out of run folders."""
    notify_from: str | None = None
    """File with the `notify` that counts, which is all that a run folder keeps of it; of a profile its own file."""
    co2_grams_per_kwh: float | None = Field(default=None, ge=0)
    """Grams of CO₂ that a kWh makes at the site: `sedd usage` then shows CO₂; nothing shows none."""
    sbatch: dict[str, str | int | bool] = Field(default_factory=dict)
    """Further long options of sbatch, without dashes in front: `reservation: proteins`, `exclusive: true`."""

    def for_job(self, *, gpus_per_node: int) -> "SlurmProfile":
        """The profile as it holds for a job with this many GPUs a node."""
        return self if gpus_per_node or self.cpu is None else self.model_copy(update=dict(self.cpu))

    @field_validator("partition", "account", "qos", "constraint", "exclude")
    @classmethod
    def _one_line(cls, text: str | None) -> str | None:
        if text is not None and not text.isprintable():
            raise ValueError(f"must be one line, not {text!r}")
        return text

    @field_validator("setup")
    @classmethod
    def _no_directives(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        if found := [line for text in lines for line in text.splitlines() if line.startswith("#SBATCH")]:
            raise ValueError(
                f"sbatch would read {found[0]!r} as an option: write it in the profile, without #SBATCH"
            )
        return lines

    @field_validator("sbatch")
    @classmethod
    def _known_options(
        cls, options: dict[str, str | int | bool], info: ValidationInfo
    ) -> dict[str, str | int | bool]:
        if info.context == STORED:
            return options
        if problems := [problem for pair in options.items() if (problem := problem_with(*pair))]:
            raise ValueError("; ".join(problems))
        return options


class LocalProfile(StrictModel):
    """This machine, without a scheduler."""

    executor: Literal["local"]
    """submitit's local executor: jobs are processes of this machine."""
    gpu: Gpu = Gpu()
    """The cards of this machine."""
    stage: str | None = None
    """A faster folder, to which token stores are copied first; nothing copies none."""
    local_checkpoints: str | None = None
    """Folder of the node for copies of the training state; nothing takes the first with room of `$SLURM_TMPDIR`,
    `$TMPDIR`, `/tmp` and `/dev/shm`."""
    wandb: WandbMode | None = None
    """wandb mode on this machine; nothing leaves it to the spec."""
    notify: NotifySettings | None = Field(default=None, exclude=True)
    """Whom to tell how runs end; nothing leaves it to ~/.config/sedd/config.yaml. It stays out of run folders."""
    notify_from: str | None = None
    """File with the `notify` that counts, which is all that a run folder keeps of it; of a profile its own file."""
    co2_grams_per_kwh: float | None = Field(default=None, ge=0)
    """Grams of CO₂ that a kWh makes at the site: `sedd usage` then shows CO₂; nothing shows none."""

    def for_job(self, *, gpus_per_node: int) -> "LocalProfile":
        """This profile: one machine runs everything."""
        return self


Profile = SlurmProfile | LocalProfile
_OF_A_SPEC = ("name", "task", "stages")
"""Keys of a spec or plan that no profile has."""
EXECUTORS: dict[str, type[SlurmProfile] | type[LocalProfile]] = {"slurm": SlurmProfile, "local": LocalProfile}


def load_profile(
    given: str | Path | None, *, spec: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Profile:
    """The profile for `--cluster given`, else of `$SEDD_CLUSTER`, else the user's own, else `slurm/local.yaml`.

    Without any of them it is the embedded default.

    Raises:
        SpecError: no such file, or one with problems.
    """
    path = find_profile(given, spec=spec, environ=environ)
    profile = (
        LocalProfile(executor="local") if path is None else read_profile(_load(path, given, spec, environ))
    )
    if path is not None and profile.notify is not None:
        profile = profile.model_copy(update={"notify_from": str(path.absolute())})
    return with_mail(profile, environ)


def _load(path: Path, given: str | Path | None, spec: Path | None, environ: Mapping[str, str]) -> Document:
    """The profile's document. Raises: SpecError that names the setting, too, where no option has named the file."""
    try:
        return load_document(path)
    except SpecError as e:
        origin = None if given else _setting(environ)
        if given and not path.exists():
            raise SpecError(e.message, hint=_meant_profile(path, spec, e.hint)) from e
        if origin and not path.is_absolute() and not path.exists():
            raise SpecError(
                f"{e.message} ({origin} names it, relative to the current folder, {Path.cwd()})",
                hint=e.hint or f'export SEDD_CLUSTER="$PWD/{path}", where {path} is, holds in every folder',
            ) from e
        is_itself = e.hint is not None and str(config_file(environ)) in e.hint  # its neighbour in that folder
        raise SpecError(
            f"{e.message} ({origin} names it)" if origin else e.message, hint=None if is_itself else e.hint
        ) from e


def _meant_profile(path: Path, spec: Path | None, other: str | None) -> str | None:
    """A hint: the profile of nearly that name in a folder `slurm/`; else `other`, or which ones are there."""
    there = [each for folder in _folders(spec) for each in sorted((folder / "slurm").glob("*.yaml"))]
    names = {each.stem: _shown(each) for each in reversed(there)}  # the folder that counts first, last
    near = difflib.get_close_matches(path.stem, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean '{names[near[0]]}'?"
    return other or (f"there are {', '.join(names.values())}" if names else None)


def _shown(path: Path) -> str:
    """From the current folder, where it is below it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _folders(spec: Path | None) -> list[Path]:
    """Where `slurm/` is looked for: beside the spec and one folder up (`jobs/x.yaml` → `slurm/`), then here."""
    return [*list(spec.resolve().parents)[:2], Path.cwd()] if spec else [Path.cwd()]


def _setting(environ: Mapping[str, str]) -> str | None:
    """What names the profile without --cluster; None: nothing does, and `slurm/local.yaml` is taken."""
    if environ.get("SEDD_CLUSTER"):
        return "$SEDD_CLUSTER"
    config = read_user_config(environ)
    return f"`cluster:` in {config_file(environ)}" if config and config.cluster else None


def with_mail(profile: Profile, environ: Mapping[str, str]) -> Profile:
    """The profile with the mail that `notify` asks of SLURM, where it has none of its own."""
    settings = notify_settings(profile, environ)
    if not isinstance(profile, SlurmProfile) or profile.mail or settings is None or settings.mail is None:
        return profile
    return profile.model_copy(update={"mail": Mail(user=settings.mail)})


def notify_settings(profile: Profile, environ: Mapping[str, str]) -> NotifySettings | None:
    """Whom to tell of runs of this profile: its own `notify`, else the user's. Raises: SpecError, in the user's."""
    if profile.notify is not None:
        return profile.notify
    config = read_user_config(environ)
    return config.notify if config is not None else None


def find_profile(given: str | Path | None, *, spec: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file that `load_profile` reads; None for the embedded default.

    `slurm/local.yaml` is looked for beside the spec and one folder up (`jobs/x.yaml` → `slurm/`), then here.
    """
    if chosen := given or environ.get("SEDD_CLUSTER"):
        return expand_home(chosen)
    if (config := read_user_config(environ)) is not None and config.cluster is not None:
        return config_path(config.cluster, environ)
    return next(
        (path for folder in _folders(spec) if (path := folder / "slurm" / "local.yaml").is_file()), None
    )


def read_profile(document: Document, *, context: object = None) -> Profile:
    """The profile in a YAML document; with context `STORED` in a manifest. Raises: SpecError with all its problems."""
    executor = document.data.get("executor")
    if executor is None and (section := next((key for key in _OF_A_SPEC if key in document.data), None)):
        raise SpecError(
            f"{document.where((section,))}: this is the spec of a job, not a cluster profile",
            hint=f"sedd submit {document.name} --cluster PROFILE, such as slurm/local.yaml",
        )
    if executor not in EXECUTORS:
        problem = "'executor' is missing" if executor is None else f"executor is {executor!r}"
        problem = f"{document.where(('executor',))}: {problem}; it must be one of 'slurm', 'local'"
        raise SpecError(problem, hint=did_you_mean(str(executor), EXECUTORS))
    return validate(EXECUTORS[executor], document, context=context)
