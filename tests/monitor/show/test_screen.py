"""Keys of `sedd status --watch`."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from sedd.monitor.decide.snapshot import Snapshot
from sedd.monitor.show.screen import (
    ORDERS,
    Action,
    Effect,
    Mode,
    Screen,
    chosen_run,
    cursor,
    press,
    shown_runs,
)

KEYS = [
    "up",
    "down",
    "j",
    "k",
    "enter",
    "escape",
    "backspace",
    "pagedown",
    "q",
    "l",
    "/",
    "s",
    "a",
    "c",
    "r",
    "y",
    "x",
]


def after(zoo: Snapshot, *keys: str, screen: Screen | None = None) -> tuple[Screen, Effect | None]:
    screen, effect = screen or Screen(), None
    for key in keys:
        screen, effect = press(screen, key, shown_runs(screen, zoo), page=5, deepest=20)
    return screen, effect


def test_the_cursor_stays_on_its_run_when_the_order_changes(zoo: Snapshot) -> None:
    screen, _ = after(zoo, "down", "down")
    chosen = shown_runs(screen, zoo)[cursor(screen, shown_runs(screen, zoo))].id
    assert chosen == shown_runs(Screen(), zoo)[2].id
    resorted, _ = after(zoo, "s", "s", screen=screen)
    views = shown_runs(resorted, zoo)
    assert views[cursor(resorted, views)].id == chosen


def test_the_cursor_stops_at_both_ends(zoo: Snapshot) -> None:
    last = after(zoo, *["pagedown"] * 9)[0]
    assert last.chosen == shown_runs(last, zoo)[-1].id
    first = after(zoo, *["up"] * 30, screen=last)[0]
    assert first.chosen == shown_runs(first, zoo)[0].id


def test_newest_first(zoo: Snapshot) -> None:
    ids = [view.id for view in shown_runs(Screen(), zoo)]
    assert ids == sorted(ids, reverse=True)


def test_every_order_shows_every_run(zoo: Snapshot) -> None:
    for order in ORDERS:
        assert {v.id for v in shown_runs(Screen(order=order), zoo)} == {v.id for v in zoo.runs}
    assert next(v.name for v in shown_runs(Screen(order="loss"), zoo)) == "uniref50_small"


def test_a_filter_is_typed_kept_and_cleared(zoo: Snapshot) -> None:
    screen, _ = after(zoo, "/", "q", "u", "i", "x", "backspace")
    assert screen.filter == "qui"
    assert [v.name for v in shown_runs(screen, zoo)] == ["quickstart"]
    kept, _ = after(zoo, "enter", screen=screen)
    assert (kept.mode, kept.filter) == (Mode.TABLE, "qui")
    assert after(zoo, "escape", screen=screen)[0].filter == ""


def test_states_can_be_filtered_for(zoo: Snapshot) -> None:
    assert [v.name for v in shown_runs(Screen(filter="gave up"), zoo)] == ["gave_up"]


def test_nothing_is_cancelled_without_a_yes(zoo: Snapshot) -> None:
    asked, effect = after(zoo, "down", "c")
    assert (asked.mode, asked.action, effect) == (Mode.CONFIRM, Action.CANCEL, None)
    for key in KEYS:
        answered, effect = after(zoo, key, screen=asked)
        assert effect == (Effect(action=Action.CANCEL, target=asked.chosen or "") if key == "y" else None)
        assert answered.mode is Mode.TABLE
        assert answered.chosen == asked.chosen


def test_requeue_asks_too(zoo: Snapshot) -> None:
    screen, effect = after(zoo, "enter", "r", "y")
    assert effect == Effect(action=Action.REQUEUE, target=screen.chosen or "")
    assert screen.mode is Mode.DETAIL, "back where the question came up"


def test_an_answer_is_for_the_run_that_was_asked_about(zoo: Snapshot) -> None:
    asked, _ = after(zoo, "c", screen=Screen(chosen=next(v.id for v in zoo.runs if v.name == "savers")))
    others = [view for view in zoo.runs if view.name != "savers"]  # it no longer passes the filter
    _, effect = press(asked, "y", others)
    assert effect == Effect(action=Action.CANCEL, target=asked.chosen or "")


def test_an_open_run_stays_open_when_the_filter_no_longer_lets_it_pass(zoo: Snapshot) -> None:
    screen, _ = after(zoo, "down", "enter")
    assert screen.mode is Mode.DETAIL
    seen = chosen_run(screen, [], zoo)
    assert seen is not None
    assert seen.id == screen.chosen
    gone = dataclasses.replace(zoo, runs=tuple(v for v in zoo.runs if v.id != screen.chosen))
    assert chosen_run(screen, gone.runs, gone) is None, "no other run takes its place"


def test_escape_clears_the_filter_and_never_quits(zoo: Snapshot) -> None:
    kept, _ = after(zoo, "/", "q", "u", "enter")
    assert after(zoo, "escape", screen=kept) == (dataclasses.replace(kept, filter=""), None)
    assert after(zoo, "escape", "escape")[1] is None


def test_nothing_scrolls_past_its_end_and_logs_scroll_up_from_theirs(zoo: Snapshot) -> None:
    assert after(zoo, "enter", *["pagedown"] * 9)[0].scroll == 20
    assert after(zoo, "enter", *["pagedown"] * 9, "up")[0].scroll == 19
    assert after(zoo, "l", "down")[0].scroll == 0
    assert after(zoo, "l", "up", "up")[0].scroll == 2


def test_trouble_comes_first_in_order_of_state(zoo: Snapshot) -> None:
    states = [view.state for view in shown_runs(Screen(order="state"), zoo)]
    assert [s.is_trouble for s in states] == sorted([s.is_trouble for s in states], reverse=True)


def test_detail_and_log_open_scroll_and_close(zoo: Snapshot) -> None:
    screen, _ = after(zoo, "down", "enter", "down", "down", "up")
    assert (screen.mode, screen.scroll) == (Mode.DETAIL, 1)
    assert after(zoo, "l", screen=screen)[0].mode is Mode.LOG
    back, effect = after(zoo, "q", screen=screen)
    assert (back.mode, effect) == (Mode.TABLE, None)
    assert after(zoo, "q", screen=back)[1] == Effect(quits=True)


@given(st.lists(st.sampled_from(KEYS), max_size=40))
def test_no_keys_break_a_screen_without_runs(keys: list[str]) -> None:
    screen = Screen()
    for key in keys:
        screen, effect = press(screen, key, [])
        assert effect is None or effect.quits or effect.action is not None


def test_ctrl_c_quits_everywhere(zoo: Snapshot) -> None:
    for mode in Mode:
        assert after(zoo, "ctrl-c", screen=Screen(mode=mode))[1] == Effect(quits=True)
