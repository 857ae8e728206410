"""From what a user types to a run."""

import datetime as dt
import json
import re
import shutil
from pathlib import Path

import pytest

from sedd.errors import UsageError
from sedd.rundir.events import append_event
from sedd.rundir.find import find_missing_root, find_run, find_runs, list_runs, runs_root
from sedd.rundir.layout import RunDir, create_run, write_manifest
from sedd.rundir.plan_record import PlanRecord, StageRecord, find_plan, find_plans, write_plan

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
OLD, NEW, OTHER = "20261122-100000-aaaa1111", "20261122-110000-aaaa1111", "20261123-100000-bbbb2222"


def make(root: Path, name: str, identity: str, *jobs: str) -> RunDir:
    run = create_run(root, name, identity, "x")
    write_manifest(run, {"name": name})
    for job in jobs:
        append_event(run.events, "submitted", attempt=0, now=NOW, job_id=job)
    return run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "my runs"
    make(root, "protein", OLD, "100", "vm:8776:721863")
    make(root, "protein", NEW, "101", "205")
    make(root, "sweep", OTHER, "300_2")
    create_run(root, "sweep", "20261124-000000-cccc3333", "x")  # never submitted
    (root / "a file").write_text("x")
    return root


@pytest.mark.parametrize(
    ("typed", "identity"),
    [
        ("protein", NEW),
        ("sweep", OTHER),
        (OLD, OLD),
        (OLD[:12], OLD),
        ("20261123", OTHER),
        ("100", OLD),
        ("vm:8776:721863", OLD),
        ("205", NEW),
        ("300_2", OTHER),
    ],
)
def test_a_name_an_id_its_beginning_or_a_job_is_enough(root: Path, typed: str, identity: str):
    assert find_run(typed, root).id == identity


def test_a_folder_is_a_run_wherever_it_lies(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = root / "protein" / OLD
    assert find_run(str(run), tmp_path / "elsewhere").id == OLD
    assert find_run(f"{run}/", tmp_path / "elsewhere").id == OLD
    monkeypatch.chdir(run)
    assert find_run(".", tmp_path / "elsewhere") == RunDir(run)


@pytest.mark.parametrize(
    "typed", ["protein", NEW, "101", f"protein/{NEW}", "mine", "{link}/protein", "{link}/mine"]
)
def test_a_run_is_found_by_its_real_path_whatever_links_lead_there(root: Path, tmp_path: Path, typed: str):
    """As where $SEDD_RUNS is ~/scratch, a link: a job knows its run by the real path alone."""
    link, real = tmp_path / "link", (root / "protein" / NEW).resolve()
    link.symlink_to(root, target_is_directory=True)
    (root / "mine").symlink_to("protein", target_is_directory=True)
    text = typed.format(link=link)
    assert [run.path for run in find_runs(text, link)] == [real]
    assert find_run(text, link).path == real
    assert [run.path for run in list_runs(link)].count(real) == 1


@pytest.mark.parametrize(
    "typed",
    ["small", "mine", "{root}/small", "{link}/small", "{link}/small/", "{link}/mine", "{link}/small/{sweep}"],
)
def test_a_sweep_is_all_its_points_whatever_links_lead_there(tmp_path: Path, typed: str):
    """Of ~/scratch/runs/small, where ~/scratch is a link, its newest point was the best, and alone was cancelled."""
    root, link, sweep = tmp_path / "runs", tmp_path / "link", "sweep-20261122-100000-aaaa"
    points = [make(root, "small", f"20261122-10000{number}-aaaa1111").path for number in range(3)]
    for path in points:
        write_manifest(RunDir(path), {"name": "small", "sweep": sweep})
    (root / "small" / sweep).mkdir()
    link.symlink_to(root, target_is_directory=True)
    (root / "mine").symlink_to("small", target_is_directory=True)
    text = typed.format(root=root, link=link, sweep=sweep)
    assert [run.path for run in find_runs(text, link)] == points
    assert find_runs(str(link / "small" / points[0].name), link) == [RunDir(points[0])], "a run is itself"


def test_a_names_folder_as_a_shell_completes_it_is_its_newest_run(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(root.parent)
    assert find_run("my runs/protein/", root).id == NEW


@pytest.mark.parametrize("form", ["{}/", "./{}", "./{}/", "{}//", ".//{}"])
@pytest.mark.parametrize(("name", "identity"), [("protein", NEW), (OLD, OLD), (f"protein/{OLD}", OLD)])
def test_a_slash_at_the_end_or_a_dot_in_front_changes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str, identity: str, form: str
):
    (root.parent / "protein").mkdir()  # the user's own folder, which is why a shell adds the slash
    monkeypatch.chdir(root.parent)
    assert find_run(form.format(name), root).id == identity
    assert [run.id for run in find_runs(form.format(name), root)] == [identity]
    with pytest.raises(UsageError, match="no run 'nobody' in"):
        find_run(form.format("nobody"), root)


@pytest.mark.parametrize("typed", ["", " "])
def test_an_empty_name_as_of_an_unset_variable_is_no_run_even_where_there_is_only_one(
    tmp_path: Path, typed: str
):
    make(tmp_path, "protein", OLD, "100")
    for find in (find_run, find_runs):
        with pytest.raises(UsageError, match="the name of a run is empty"):
            find(typed, tmp_path)


def test_a_job_whose_number_begins_as_a_date_is_that_job(tmp_path: Path):
    make(tmp_path, "protein", "20261022-100000-aaaa1111", "202611")
    make(tmp_path, "protein", OTHER, "202701")  # the only id that begins with 202611
    assert find_run("202611", tmp_path).id == "20261022-100000-aaaa1111"
    assert [run.id for run in find_runs("202611", tmp_path)] == ["20261022-100000-aaaa1111"]


def test_an_ambiguous_beginning_is_refused_with_the_newest(root: Path):
    with pytest.raises(UsageError, match="'20261122' is the beginning of 2 run ids") as caught:
        find_run("20261122", root)
    assert caught.value.hint == f"the newest is {NEW}"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("protien", "did you mean 'protein'?"), ("999", "sedd status --all")],
)
def test_what_is_not_found_is_told_with_a_hint(root: Path, typed: str, hint: str):
    with pytest.raises(UsageError, match=f"no run '{typed}' in") as caught:
        find_run(typed, root)
    assert hint in str(caught.value.hint)


def test_a_run_is_found_as_messages_name_it(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert find_run(f"protein/{OLD}", root).id == OLD


def test_a_path_that_is_no_run_is_told_as_a_path(root: Path):
    with pytest.raises(UsageError, match="protien does not exist") as caught:
        find_run(str(root / "protien"), root / "protien")
    assert caught.value.hint == "did you mean 'protein'?"
    with pytest.raises(UsageError, match=f"{root.parent} holds no run"):
        find_run(f"{root.parent}/", root)


def test_a_folder_that_was_never_submitted_is_no_run(root: Path):
    with pytest.raises(UsageError):
        find_run("20261124-000000-cccc3333", root)


def test_a_token_store_is_no_run_and_hides_none_of_that_name(
    root: Path, store: Path, monkeypatch: pytest.MonkeyPatch
):
    mine = root.parent / "protein"  # the user's own folder, of the name of a run
    shutil.copytree(store, mine / "p.store")
    shutil.copytree(store, root / "protein" / "p.store")
    monkeypatch.chdir(root.parent)
    assert find_run("protein", root).path == root / "protein" / NEW
    assert [run.path for run in find_runs("protein", root)] == [root / "protein" / NEW]
    assert [run.id for run in list_runs(root)] == [OLD, NEW, OTHER]
    (mine / "p.store" / "spec.yaml").write_text("name: what it is for")
    for typed in ("protein/p.store", str(mine / "p.store")):
        with pytest.raises(
            UsageError, match=r"p\.store is not a run: its manifest.json is of something else"
        ):
            find_run(typed, root)
    monkeypatch.chdir(mine)
    with pytest.raises(UsageError, match=r"p\.store is not a run"):
        find_run("p.store", root)


@pytest.mark.parametrize("content", ['{"format": 3, "spec_hash": "1a"}', '{"spec_hash": "1a"}', "{}", "{dam"])
def test_a_run_is_one_whatever_its_format_and_also_with_a_damaged_manifest(root: Path, content: str):
    run = RunDir(root / "protein" / NEW)
    run.manifest.write_text(content)
    assert find_run(str(run.path), root) == find_run("protein", root) == run
    run.spec.unlink()
    if "spec_hash" in content:
        assert find_run(str(run.path), root) == run
        return
    with pytest.raises(UsageError, match="is not a run"):
        find_run(str(run.path), root)


def test_a_spec_is_told_to_be_one(root: Path, monkeypatch: pytest.MonkeyPatch):
    (root.parent / "a.yaml").write_text("name: protein")
    monkeypatch.chdir(root.parent)
    for typed in ("a.yaml", "./a.yaml", str(root.parent / "a.yaml")):
        with pytest.raises(UsageError, match=r"a\.yaml is a spec, not a run"):
            find_run(typed, root)


def test_runs_are_listed_oldest_first(root: Path):
    assert [run.id for run in list_runs(root)] == [OLD, NEW, OTHER]


def test_without_a_runs_folder_there_are_none(tmp_path: Path):
    assert list_runs(tmp_path / "nothing") == []


def test_runs_live_where_the_environment_says_else_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert runs_root({}) == tmp_path / "runs"
    assert runs_root({"SEDD_RUNS": ""}) == tmp_path / "runs"
    assert runs_root({"SEDD_RUNS": "/fast/my runs"}) == Path("/fast/my runs")
    monkeypatch.setenv("HOME", "/home/me")
    assert runs_root({"SEDD_RUNS": "~/runs"}) == Path("/home/me/runs")


def hint_of_unknown() -> str:
    with pytest.raises(UsageError, match="no run 'xyzzy' in") as caught:
        find_run("xyzzy", runs_root())
    return str(caught.value.hint)


def test_the_hint_names_the_setting_that_chose_the_folder(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(root.parent))
    monkeypatch.chdir(root.parent)
    config = root.parent / "sedd" / "config.yaml"
    assert hint_of_unknown() == (
        "runs are looked for in ./runs of the current folder, which does not exist; "
        f"$SEDD_RUNS, or `runs:` in {config}, names another folder"
    )
    config.parent.mkdir()
    config.write_text(f"runs: {root}\n")
    assert hint_of_unknown().startswith(f"`runs:` in {config} names {root}; ")
    monkeypatch.setenv("SEDD_RUNS", str(root))
    assert hint_of_unknown().startswith(f"$SEDD_RUNS names {root}; ")
    monkeypatch.setenv("SEDD_RUNS", "elsewhere")
    assert hint_of_unknown() == (
        f"$SEDD_RUNS, relative to the current folder, names {root.parent / 'elsewhere'}, which does not exist"
    )


def test_a_named_folder_that_is_a_file_is_refused_and_a_missing_one_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file is not a folder") as caught:
        runs_root({"SEDD_RUNS": str(tmp_path / "file")})
    assert caught.value.hint == "$SEDD_RUNS names it"
    missing = tmp_path / "missing"
    told = find_missing_root(missing, {"SEDD_RUNS": str(missing)})
    assert told == f"$SEDD_RUNS names {missing}, which does not exist"
    assert find_missing_root(tmp_path, {"SEDD_RUNS": str(tmp_path)}) is None


def test_a_sweep_is_all_its_points_by_its_id_or_by_a_name_whose_newest_run_is_one_of_them(root: Path):
    first, *points = (root / "grid" / f"20261125-00000{n}-dddd4444" for n in range(4))
    for path in (first, *points):
        path.mkdir(parents=True)
        sweep = None if path == first else "sweep-1"
        (path / "spec.yaml").write_text("x")
        (path / "manifest.json").write_text(json.dumps({"sweep": sweep}))
    (root / "grid" / "sweep-1").mkdir()
    paths = (str(root / "grid"), str(root / "grid" / "sweep-1"))
    for typed in ("grid", "grid/", "./grid", "sweep-1", "sweep-1/", "./grid/sweep-1", *paths):
        assert [run.path for run in find_runs(typed, root)] == points
    assert [run.path for run in find_runs(points[0].name, root)] == points[:1]
    assert [run.path for run in find_runs(first.name, root)] == [first]
    for task, path in enumerate(points):
        event = {"t": "2026-11-25T00:00:00+00:00", "event": "submitted", "attempt": 0, "job_id": f"8_{task}"}
        (path / "events.jsonl").write_text(json.dumps(event) + "\n")
    assert [run.path for run in find_runs("8", root)] == points
    assert [run.path for run in find_runs("8_1", root)] == points[1:2]
    for unknown in ("sweep-2", "sweep-**"):
        with pytest.raises(UsageError, match=re.escape(f"no run '{unknown}'")):
            find_runs(unknown, root)


def test_a_plan_or_a_run_may_have_a_name_that_begins_as_an_id_of_plans(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    run, named_so = make(root, "plan-b-train", NEW), make(root, "plan-c", OLD)
    train = StageRecord(name="train", task="train", runs=(run,), waits={}, by_point=())
    older = root / "plan-b" / "plan-20261121-000000-1a1a1a1a"
    for second in (1, 2):
        folder = root / "plan-b" / f"plan-2026112{second}-000000-1a1a1a1a"
        write_plan(PlanRecord(name="plan-b", folder=folder, stages=(train,)), "")
    (root.parent / "plan-b").mkdir()  # the user's own
    monkeypatch.chdir(root.parent)
    paths = (str(root / "plan-b"), "my runs/plan-b/", "./my runs/plan-b", str(folder))
    for typed in ("plan-b", "plan-b/", "./plan-b", folder.name, f"{folder.name}/", *paths):
        plan = find_plan(typed, root)
        assert plan is not None
        assert plan.folder == folder
        assert find_runs(typed, root) == [run]
    several = find_plans(["plan-b", "plan-c", "my runs/plan-b", str(folder), str(older)], root)
    assert [plan.folder for plan in several] == [folder, older]
    assert find_plan("plan-c", root) is None
    assert find_runs("plan-c", root) == [named_so]
    for unknown in ("plan-d", "plan-**"):
        assert find_plan(unknown, root) is None
