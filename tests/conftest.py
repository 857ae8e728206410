"""Shared by all tests: shapes checked at run time, golden files, one thread per test process."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import jaxtyping
import pytest

jaxtyping.install_import_hook(["sedd.diffusion", "sedd.model"], "beartype.beartype")
# A busy machine is no failure; CI repeats known examples, new ones are looked for at a developer's desk.
hypothesis.settings.register_profile("sedd", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("sedd")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_SILENT", "true")
# A shell starts what it puts in the background deaf to Ctrl-C, and the commands that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


_LONGEST = (
    *(f"training/test_{name}.py" for name in ("resume", "sharding", "local_copies", "tracking", "ordered")),
    "cli/test_load_network.py",
    "cli/test_submit.py",
    "job/test_supervisor.py",
    "job/test_inference_tasks.py",
    "amend/test_extend.py",
    "tools/test_bench_training.py",
    "tools/test_bench_quality.py",
    "finetune/test_fine_tuning.py",
    "conditions/test_training.py",
)
"""Files that take a minute or more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, where several are run at a time: at the end nobody then waits for one of them."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        places = {(Path(__file__).parent / name).resolve(strict=True): n for n, name in enumerate(_LONGEST)}
        items.sort(key=lambda item: places.get(item.path, len(places)))


_OF_A_COMMAND = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)


@pytest.fixture(autouse=True)
def signals_restored() -> Iterator[None]:
    """A command keeps the stop signals until its process ends: here the next test runs in the same process."""
    before = {number: signal.getsignal(number) for number in _OF_A_COMMAND}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew-golden", action="store_true", help="write golden files instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("table.txt", text)` compares text with tests/<room>/golden/table.txt."""

    def compare(name: str, text: str) -> None:
        path = Path(request.path).parent / "golden" / name
        if request.config.getoption("--renew-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        expected = path.read_text(encoding="utf-8") if path.exists() else ""
        assert text == expected, (
            f"differs from {path}; if that is wanted: pytest --renew-golden {request.path}"
        )

    return compare


@pytest.fixture(autouse=True)
def _no_user_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own cluster, runs folder or W&B login never leak into a test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", os.devnull)
    for name in ("SEDD_CLUSTER", "SEDD_RUNS", "SEDD_DEBUG", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token store of real proteins of at least MAX_LENGTH residues: every one gives MAX_LENGTH to an epoch."""
    from sedd.data.build import build_store
    from sedd.spec.build import BuildOptions
    from tests.tiny import MAX_LENGTH, PROTEINS

    path = tmp_path_factory.mktemp("data") / "small.store"
    build_store([PROTEINS], path, BuildOptions(limit=80, min_length=MAX_LENGTH, validation_fraction=0.2))
    return path
