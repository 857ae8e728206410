from pathlib import Path

import pytest

from sedd.cluster.profile import (
    STORED,
    LocalProfile,
    Profile,
    SlurmProfile,
    find_profile,
    load_profile,
    read_profile,
)
from sedd.cluster.sbatch_options import REFUSED, VALID, problem_with
from sedd.errors import SpecError
from sedd.yaml import parse_document

SHIPPED = sorted((Path(__file__).parents[2] / "slurm").glob("*.yaml"))


def read(text: str) -> Profile:
    return read_profile(parse_document(text, name="site.yaml"))


def slurm(text: str) -> SlurmProfile:
    profile = read(f"executor: slurm\n{text}")
    assert isinstance(profile, SlurmProfile)
    return profile


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_profiles_load(path: Path) -> None:
    assert load_profile(path)


@pytest.mark.parametrize("text", ["name: small\ntraining: {steps: 1}\n", "task: data\n", "stages: {}\n"])
def test_a_spec_is_told_to_be_none_of_a_site(text: str) -> None:
    with pytest.raises(
        SpecError, match=r"site\.yaml:1: this is the spec of a job, not a cluster profile"
    ) as caught:
        read(text)
    assert "sedd submit site.yaml --cluster PROFILE" in str(caught.value.hint)


def test_units_are_seconds_and_bytes() -> None:
    profile = slurm("max_walltime: 24h\ngpu: {type: v100, memory: 32GiB}\n")
    assert profile.max_walltime == 86400
    assert profile.gpu.memory == 32 * 2**30


def test_everything_a_site_needs_can_be_said() -> None:
    profile = slurm(
        "partition: gpu\naccount: a\nqos: q\nconstraint: v100-32g\nexclude: n[1-2]\n"
        "mail: {user: ada, type: [END]}\nsetup: [module load python]\ncontainer: /i.sif\nscratch: /s/$USER\n"
        "wandb: offline\nsbatch: {reservation: r, exclusive: true, nice: 10}\n"
    )
    assert profile.setup == ("module load python",)
    assert profile.sbatch == {"reservation": "r", "exclusive": True, "nice": 10}
    assert profile.mail is not None
    assert profile.mail.type == ("END",)


def test_all_problems_at_once_each_with_its_line() -> None:
    with pytest.raises(SpecError) as caught:
        slurm("partitoin: gpu\nmax_walltime: 24\nwandb: ofline\nsbatch: {reservaton: x}\n")
    message = caught.value.message
    assert "site.yaml:2: unknown field 'partitoin' (did you mean 'partition'?)" in message
    assert "site.yaml:3: max_walltime" in message
    assert "site.yaml:4: wandb is 'ofline'" in message
    assert "did you mean 'reservation'?" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("partition: gpu\n", "'executor' is missing"),
        ("executor: slrum\n", "executor is 'slrum'"),
        ("executor: local\npartition: gpu\n", "unknown field 'partition'"),
    ],
)
def test_the_executor_decides_which_fields_there_are(text: str, expected: str) -> None:
    with pytest.raises(SpecError, match=expected):
        read(text)


def test_a_misspelt_executor_has_a_suggestion() -> None:
    with pytest.raises(SpecError) as caught:
        read("executor: slrum\n")
    assert caught.value.hint == "did you mean 'slurm'?"


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("reservation", "x", None),
        ("exclusive", True, None),
        ("exclusive", "user", None),
        ("nice", 100, None),
        ("contiguous", True, None),
        ("chdir", "/scratch/me", None),
        ("contiguous", "x", "takes no value"),
        ("reservation", True, "needs a value"),
        ("contiguous", False, "leave the line out"),
        ("reservation", "a\n#SBATCH --partition=other", "one line"),
        ("reservation", "", "one line"),
        ("chdir", "work", "from / on"),
        ("--reservation", "x", "did you mean 'reservation'"),
        ("mem_per_gpu", "8G", "did you mean 'mem-per-gpu'"),
        ("blub", 1, "valid are acctg-freq"),
        ("time", "1:00", "resources.walltime"),
        ("partition", "gpu", "`partition:`"),
    ],
)
def test_raw_options(option: str, value: str | int | bool, expected: str | None) -> None:
    problem = problem_with(option, value)
    assert problem is None if expected is None else problem is not None and expected in problem


@pytest.mark.parametrize(
    "option",
    [
        *("clusters", "cluster-constraint", "comment", "output", "job-name", "parsable", "quiet", "verbose"),
        *("export", "export-file", "get-user-env", "uid", "gid", "container", "array", "dependency"),
        *("begin", "hold", "deadline", "kill-on-invalid-dep", "no-kill", "no-requeue", "requeue", "signal"),
        *("nodelist", "nodefile", "mem", "mem-per-cpu", "cpus-per-task", "gpus", "ntasks-per-gpu", "wait"),
    ],
)
def test_an_option_that_a_run_cannot_keep_to_its_end_is_refused_with_the_reason(option: str) -> None:
    with pytest.raises(SpecError, match=rf"site\.yaml:2: .*'{option}' cannot be set here: \w+"):
        slurm(f"sbatch: {{{option}: x}}\n")


def test_options_of_old_and_new_slurm_are_known() -> None:
    assert {"bb", "mem-bind", "segment", "prefer", "licenses"} <= VALID
    assert not VALID & REFUSED.keys()


@pytest.mark.parametrize("field", ["partition", "account", "qos", "constraint", "exclude"])
def test_no_field_smuggles_an_option_in(field: str) -> None:
    with pytest.raises(SpecError, match=f"site.yaml:2: {field}: must be one line"):
        slurm(f'{field}: "x\\n#SBATCH --comment=y"\n')


def test_no_line_of_the_setup_is_a_directive() -> None:
    with pytest.raises(SpecError, match="sbatch would read '#SBATCH --comment=x' as an option"):
        slurm("setup: ['#SBATCH --comment=x']\n")


def test_what_a_run_was_submitted_with_is_not_judged_anew() -> None:
    document = parse_document("executor: slurm\nsbatch: {hold: true, mem: 4G}\n", name="manifest.json")
    stored = read_profile(document, context=STORED)
    assert isinstance(stored, SlurmProfile)
    assert stored.sbatch == {"hold": True, "mem": "4G"}


def test_which_profile_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_profile(None, spec=None, environ={}) is None
    assert load_profile(None, environ={}) == LocalProfile(executor="local")

    project = tmp_path / "my project"
    (project / "slurm").mkdir(parents=True)
    (project / "slurm" / "local.yaml").write_text("executor: local\nwandb: offline\n")
    spec = project / "jobs" / "x.yaml"
    assert find_profile(None, spec=spec, environ={}) == project / "slurm" / "local.yaml"
    assert find_profile(None, spec=spec, environ={"SEDD_CLUSTER": "site.yaml"}) == Path("site.yaml")
    assert find_profile("given.yaml", spec=spec, environ={"SEDD_CLUSTER": "site.yaml"}) == Path("given.yaml")
    assert load_profile(None, spec=spec, environ={}) == LocalProfile(executor="local", wandb="offline")


def test_a_missing_profile_says_which_one_is_near(tmp_path: Path) -> None:
    (tmp_path / "v100.yaml").write_text("executor: slurm\n")
    with pytest.raises(SpecError) as caught:
        load_profile(tmp_path / "v1000.yaml")
    assert caught.value.hint is not None
    assert "v100.yaml" in caught.value.hint


def test_a_profiles_bare_name_suggests_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slurm").mkdir()
    (tmp_path / "jobs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in ("v100", "local"):
        (tmp_path / "slurm" / f"{name}.yaml").write_text("executor: local\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    spec = tmp_path / "jobs" / "x.yaml"
    hints = {}
    for given in ("v100", "v10.yaml", "other/v100.yaml", "zzz"):
        with pytest.raises(SpecError, match="no such file") as caught:
            load_profile(given, spec=spec)
        hints[given] = caught.value.hint
    meant = f"did you mean '{tmp_path / 'slurm' / 'v100.yaml'}'?"
    assert [hints[given] for given in ("v100", "v10.yaml", "other/v100.yaml")] == [meant] * 3
    assert str(tmp_path / "slurm" / "local.yaml") in (hints["zzz"] or "")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError) as caught:
        load_profile("v100")
    assert caught.value.hint == "did you mean 'slurm/v100.yaml'?"
