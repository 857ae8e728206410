"""Listing with a memory sees what listing afresh sees."""

import os
import shutil
from typing import Any

import pytest

from sedd.monitor.read import listing as module
from sedd.monitor.read.listing import Listing
from sedd.rundir.find import list_runs
from sedd.rundir.layout import create_run, write_manifest
from sedd.rundir.plan_record import PlanRecord, StageRecord, write_plan


@pytest.fixture(autouse=True)
def _all_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SETTLED_NS", -1)


def test_no_root_yet_is_no_run(farm: Any) -> None:
    assert Listing(farm.root).runs() == []


def test_new_and_vanished_runs_are_seen(farm: Any) -> None:
    listing = Listing(farm.root)
    first = farm.run("a", "20261122-080000-1")
    assert listing.runs() == [first.folder]
    second = farm.run("a", "20261122-090000-2")
    third = farm.run("b", "20261122-070000-3")
    assert listing.runs() == [third.folder, first.folder, second.folder] == list_runs(farm.root)
    shutil.rmtree(first.folder.path)
    shutil.rmtree(third.folder.path.parent)
    assert listing.runs() == [second.folder]


def test_a_run_is_seen_when_its_manifest_appears(farm: Any) -> None:
    listing = Listing(farm.root)
    run = create_run(farm.root, "a", "20261122-080000-1", "")
    assert listing.runs() == []
    write_manifest(run, {})
    assert listing.runs() == [run]


def test_folders_without_news_are_not_read_again(farm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = farm.run("a")
    listing = Listing(farm.root)
    before = listing.runs()
    scanned: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: scanned.append(str(path)) or real(path))  # type: ignore[func-returns-value] # append says nothing
    assert listing.runs()[0] is before[0]
    assert scanned == [str(farm.root)]
    assert run.folder == before[0]


def test_plans_are_read_again_when_a_folder_has_come_or_some_time_has_passed(
    farm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = Listing(farm.root)
    stage = StageRecord(
        name="s", task="train", runs=(farm.run("a", "20261122-080000-1").folder,), waits={}, by_point=()
    )

    def plans_after(name: str, identity: str) -> list[str]:
        write_plan(PlanRecord(name=name, folder=farm.root / name / identity, stages=(stage,)), "")
        listing.runs()
        return [plan.id for plan in listing.plans()]

    assert plans_after("p", "plan-20261122-080000-1") == ["plan-20261122-080000-1"]
    both = ["plan-20261122-080000-1", "plan-20261122-080000-2"]
    assert plans_after("q", "plan-20261122-080000-2") == both
    assert plans_after("p", "plan-20261122-080000-3") == both, "no run is new"
    monkeypatch.setattr(module, "_PLANS_S", -1.0)
    assert [plan.id for plan in listing.plans()] == ["plan-20261122-080000-2", "plan-20261122-080000-3"]
