"""Keys of `sedd status --watch`."""

from hypothesis import given
from hypothesis import strategies as st

from sedd.monitor.screen import ORDERS, Action, Effect, Mode, Screen, cursor, press, shown_runs
from sedd.monitor.snapshot import Snapshot

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
        screen, effect = press(screen, key, shown_runs(screen, zoo), page=5)
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
        assert effect == (Effect(action=Action.CANCEL) if key == "y" else None)
        assert answered.mode is Mode.TABLE
        assert answered.chosen == asked.chosen


def test_requeue_asks_too(zoo: Snapshot) -> None:
    assert after(zoo, "enter", "r", "y")[1] == Effect(action=Action.REQUEUE)


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
