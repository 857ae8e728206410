"""The state of `sedd status --watch` and what each key changes: pure."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sedd.monitor.decide.snapshot import RunView, Snapshot
from sedd.monitor.decide.state import BY_CARE
from sedd.monitor.show.cells import point_text
from sedd.monitor.show.table import recent
from sedd.rundir.plan_record import PlanRecord


class Mode(StrEnum):
    TABLE = "table"
    FILTER = "filter"
    """Typing the text that runs must contain."""
    DETAIL = "detail"
    LOG = "log"
    CONFIRM = "confirm"
    """Asking whether to do `Screen.action`."""


class Action(StrEnum):
    """What a user may ask for that changes a run."""

    CANCEL = "cancel"
    REQUEUE = "requeue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """What is shown.

    Attributes:
        chosen: id of the run under the cursor; None: the first.
        shows_all: also runs that ended long ago, and those of plans one by one.
        scroll: lines that the detail is scrolled down, or the log up from its end.
        asked_in: where the question of `Mode.CONFIRM` came up.
        message: outcome of the last action.
    """

    mode: Mode = Mode.TABLE
    chosen: str | None = None
    filter: str = ""
    order: str = "newest"
    shows_all: bool = False
    scroll: int = 0
    action: Action | None = None
    asked_in: Mode = Mode.TABLE
    message: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """Something to do outside the screen: quit, or act on the run with the id `target`."""

    action: Action | None = None
    target: str = ""
    quits: bool = False


def _unknown_last(value: float | None) -> float:
    return float("inf") if value is None else value


ORDERS: dict[str, Callable[[RunView], tuple[object, ...]]] = {
    "newest": lambda v: (tuple(-ord(letter) for letter in v.id),),
    "state": lambda v: (BY_CARE.index(v.state), v.name, v.id),
    "loss": lambda v: (_unknown_last(v.validation_bound), _unknown_last(v.loss), v.id),
    "eta": lambda v: (_unknown_last(v.eta_s), v.id),
    "name": lambda v: (v.name, v.id),
}
"""Orders of runs, in the order in which the key goes through them."""


def shown_runs(screen: Screen, snapshot: Snapshot, plans: Sequence[PlanRecord] = ()) -> list[RunView]:
    """The runs that pass the filter, in the chosen order; without those of folded plans."""
    views = snapshot.runs if screen.shows_all else recent(snapshot)
    folded = {run for plan in folded_plans(screen, snapshot, plans) for run in plan.runs}
    words = screen.filter.lower().split()
    passed = [v for v in views if v.run not in folded and all(word in _text(v) for word in words)]
    return sorted(passed, key=ORDERS[screen.order])


def folded_plans(screen: Screen, snapshot: Snapshot, plans: Sequence[PlanRecord]) -> list[PlanRecord]:
    """The plans whose runs are one line together: those with a recent run; none where all is shown, or filtered."""
    if screen.shows_all or screen.filter:
        return []
    active = {view.run for view in recent(snapshot)}
    return [plan for plan in plans if active & set(plan.runs)]


def cursor(screen: Screen, views: Sequence[RunView]) -> int:
    """Position of the chosen run; 0 when it is gone."""
    return next((k for k, view in enumerate(views) if view.id == screen.chosen), 0)


def chosen_run(screen: Screen, views: Sequence[RunView], snapshot: Snapshot) -> RunView | None:
    """The run that keys act on. One that is open stays open when the filter no longer lets it pass."""
    if screen.mode in (Mode.TABLE, Mode.FILTER):
        return views[cursor(screen, views)] if views else None
    return next((view for view in snapshot.runs if view.id == screen.chosen), None)


def press(
    screen: Screen, key: str, views: Sequence[RunView], *, page: int = 10, deepest: int = 0
) -> tuple[Screen, Effect | None]:
    """The screen after a key, and what is to be done.

    `views` are the runs shown now; `page` lines fit, and a detail or log can be scrolled by `deepest`.
    """
    if key == "ctrl-c":
        return screen, Effect(quits=True)
    screen = dataclasses.replace(screen, message="")
    if screen.mode in (Mode.DETAIL, Mode.LOG) and (moved := _scrolled(screen, key, page, deepest)):
        return moved, None
    return _PRESS[screen.mode](screen, key, views, page)


def _press_table(
    screen: Screen, key: str, views: Sequence[RunView], page: int
) -> tuple[Screen, Effect | None]:
    if key == "q":
        return screen, Effect(quits=True)
    if key == "escape":
        return dataclasses.replace(screen, filter=""), None
    steps = _steps(page)
    if key in steps and views:
        position = min(max(cursor(screen, views) + steps[key], 0), len(views) - 1)
        return dataclasses.replace(screen, chosen=views[position].id), None
    if key == "s":
        names = list(ORDERS)
        following = names[(names.index(screen.order) + 1) % len(names)]
        return dataclasses.replace(screen, order=following), None
    if key == "a":
        return dataclasses.replace(screen, shows_all=not screen.shows_all), None
    if key == "/":
        return dataclasses.replace(screen, mode=Mode.FILTER), None
    if not views:
        return screen, None
    return _press_run(dataclasses.replace(screen, chosen=views[cursor(screen, views)].id), key), None


def _press_run(screen: Screen, key: str) -> Screen:
    """Keys about the chosen run, the same in the table, its detail and its log."""
    modes = {"enter": Mode.DETAIL, "l": Mode.LOG}
    actions = {"c": Action.CANCEL, "r": Action.REQUEUE}
    if key in modes:
        return dataclasses.replace(screen, mode=modes[key], scroll=0)
    if key in actions:
        return dataclasses.replace(screen, mode=Mode.CONFIRM, action=actions[key], asked_in=screen.mode)
    return screen


def _press_filter(
    screen: Screen, key: str, views: Sequence[RunView], page: int
) -> tuple[Screen, Effect | None]:
    if key == "enter":
        return dataclasses.replace(screen, mode=Mode.TABLE), None
    if key == "escape":
        return dataclasses.replace(screen, mode=Mode.TABLE, filter=""), None
    if key == "backspace":
        return dataclasses.replace(screen, filter=screen.filter[:-1]), None
    return dataclasses.replace(screen, filter=screen.filter + (key if len(key) == 1 else "")), None


def _press_detail(
    screen: Screen, key: str, views: Sequence[RunView], page: int
) -> tuple[Screen, Effect | None]:
    if key in ("q", "escape"):
        return dataclasses.replace(screen, mode=Mode.TABLE, scroll=0), None
    return _press_run(screen, key), None


def _scrolled(screen: Screen, key: str, page: int, deepest: int) -> Screen | None:
    """The screen after a key that scrolls; None for another key."""
    steps = _steps(page)
    if key not in steps:
        return None
    # A detail is read from its beginning, a log from its end.
    step = -steps[key] if screen.mode is Mode.LOG else steps[key]
    return dataclasses.replace(screen, scroll=max(0, min(screen.scroll + step, deepest)))


def _steps(page: int) -> dict[str, int]:
    return {"down": 1, "j": 1, "up": -1, "k": -1, "pagedown": page, "pageup": -page}


def _press_confirm(
    screen: Screen, key: str, views: Sequence[RunView], page: int
) -> tuple[Screen, Effect | None]:
    back = dataclasses.replace(screen, mode=screen.asked_in, action=None)
    return back, Effect(action=screen.action, target=screen.chosen or "") if key == "y" else None


_PRESS = {
    Mode.TABLE: _press_table,
    Mode.FILTER: _press_filter,
    Mode.DETAIL: _press_detail,
    Mode.LOG: _press_detail,
    Mode.CONFIRM: _press_confirm,
}


def _text(view: RunView) -> str:
    return f"{view.name} {view.id} {view.state} {point_text(view.point)} {view.nodes} {view.job_id}".lower()
