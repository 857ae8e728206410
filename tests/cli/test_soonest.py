"""`--soonest` where it has nothing to ask, or nothing to pick from: one line, before anything is made."""

from pathlib import Path

import pytest

from sedd.errors import SeddError
from tests.command_line import call

JOBS = Path(__file__).parents[2] / "jobs"
SITE = ("--cluster", JOBS.parent / "slurm" / "v100.yaml")
HERE = ("--cluster", JOBS.parent / "slurm" / "local.yaml")
SMALL = JOBS / "uniref50_small.yaml"
SETS = ("--set", "resources.gpus_per_node=0", "--set", "resources.walltime=1h-24h")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((SMALL, *HERE, "--set", "resources.gpus=1-4", "--soonest"), "asks SLURM"),
        ((SMALL, *SITE, "--soonest"), "nothing to pick from"),
        ((SMALL, *SITE, "--soonest", *SETS), "on GPUs; uniref50-small asks for none"),
        ((SMALL, *SITE, "--backfill", 3), "--soonest"),
        ((JOBS / "quickstart_sample.yaml", *SITE, "--soonest"), "task: sample"),
        ((JOBS / "uniref50_plan.yaml", *SITE, "--soonest"), "no training of plan uniref50-plan has a range"),
        ((SMALL, *SITE, "--set", "resources.gpus=8-1"), "'8-1'"),
        ((SMALL, *SITE, "--set", "resources.walltime=24h-1h"), "the first one must be the shorter"),
        ((SMALL, *SITE, "--set", "resources.repick=true"), "needs a range"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: tuple[object, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path / "runs"))
    with pytest.raises(SeddError) as error:
        call("submit", *arguments, "--dry-run")
    (line,) = error.value.message.splitlines()
    assert told in line
    assert not (tmp_path / "runs").exists()
