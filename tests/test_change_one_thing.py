"""The README's table "Change one thing", proved: each change is made in a copy of the project, counted and used."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("sedd", "jobs", "slurm")


class Copy:
    """The project's files that a change may touch, and which it did."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.touched: set[str] = set()
        for name in FOLDERS:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "data"))
        shutil.copytree(ROOT / "sedd" / "data", folder / "sedd" / "data")

    def write(self, path: str, text: str) -> None:
        assert not (self.folder / path).exists()
        (self.folder / path).write_text(text)
        self.touched.add(path)

    def replace(self, path: str, old: str, new: str) -> None:
        text = (self.folder / path).read_text()
        assert text.count(old) == 1, f"{path}: {text.count(old)} times {old!r}"
        (self.folder / path).write_text(text.replace(old, new))
        self.touched.add(path)

    def append(self, path: str, text: str) -> None:
        (self.folder / path).write_text((self.folder / path).read_text() + text)
        self.touched.add(path)

    def copy(self, source: str, target: str) -> None:
        self.write(target, (self.folder / source).read_text())


def experiment(copy: Copy) -> None:
    copy.copy("jobs/quickstart.yaml", "jobs/another.yaml")


def cluster(copy: Copy) -> None:
    copy.copy("slurm/v100.yaml", "slurm/another.yaml")


def preflight_check(copy: Copy) -> None:
    copy.copy("sedd/preflight/checks/clock.py", "sedd/preflight/checks/another.py")


def noise_schedule(copy: Copy) -> None:
    copy.append(
        "sedd/diffusion/noise.py",
        """

@dataclass(frozen=True, slots=True)
class Another(Noise):
    sigma_end: float

    def total(self, t: Tensor) -> Tensor:
        return self.sigma_end * t

    def rate(self, t: Tensor) -> Tensor:
        return self.sigma_end * torch.ones_like(t)


NOISES["another"] = Another
""",
    )
    copy.replace(
        "sedd/spec/diffusion.py",
        "\nNoiseSpec = Annotated[",
        '''
class AnotherSpec(StrictModel):
    """sigma_bar(t) = sigma_end t."""

    kind: Literal["another"] = "another"
    """Selects this schedule."""
    sigma_end: float = Field(default=8.0, gt=0)
    """Total noise at t = 1."""

    @property
    def total_at_end(self) -> float:
        return self.sigma_end


NoiseSpec = Annotated[AnotherSpec | ''',
    )


def graph(copy: Copy) -> None:
    copy.write(
        "sedd/diffusion/another.py",
        "from sedd.diffusion.absorbing import Absorbing\n\n\nclass Another(Absorbing):\n    pass\n",
    )
    copy.append(
        "sedd/diffusion/graph.py",
        '\nfrom sedd.diffusion.another import Another  # noqa: E402\n\nGRAPHS["another"] = Another\n',
    )
    copy.replace(
        "sedd/spec/diffusion.py", 'graph: Literal["absorbing"', 'graph: Literal["another", "absorbing"'
    )


def learning_rate_schedule(copy: Copy) -> None:
    copy.append("sedd/training/schedule.py", '\nSCHEDULES["another"] = lambda step, spec: 1 / step\n')
    copy.replace(
        "sedd/spec/training.py", 'schedule: Literal["constant"', 'schedule: Literal["another", "constant"'
    )


def attention_kernel(copy: Copy) -> None:
    copy.append("sedd/model/attention.py", '\nIMPLEMENTATIONS["another"] = explicit_attention\n')
    copy.replace("sedd/spec/training.py", 'attention: Literal["auto"', 'attention: Literal["another", "auto"')


def optimiser(copy: Copy) -> None:
    copy.append(
        "sedd/training/optimizers.py",
        """

def another(model: Transformer, spec: TrainingSpec, compute: torch.dtype, ranks: int) -> Optimizer:
    return torch.optim.Adam(decay_groups(list(model.parameters()), spec), lr=spec.learning_rate, fused=True)


OPTIMIZERS["another"] = another
""",
    )
    copy.replace(
        "sedd/spec/training.py", 'optimizer: Literal["adamw"', 'optimizer: Literal["another", "adamw"'
    )


def command(copy: Copy) -> None:
    copy.write(
        "sedd/cli/another.py", 'def command() -> None:\n    """Print a word."""\n    print("another word")\n'
    )
    copy.replace("sedd/cli/main.py", "COMMANDS = {\n", 'COMMANDS = {\n    "another": "Print a word.",\n')


CHANGES: Mapping[str, Callable[[Copy], None]] = {
    change.__name__.replace("_", " ").replace("learning rate", "learning-rate"): change
    for change in (
        experiment,
        cluster,
        preflight_check,
        noise_schedule,
        graph,
        learning_rate_schedule,
        attention_kernel,
        optimiser,
        command,
    )
}

PROBE = """
import sys
from pathlib import Path
import torch
import sedd
from sedd.cluster.profile import load_profile
from sedd.preflight.check import all_checks
from sedd.spec.load import load_request
from sedd.training.network import build_model, build_objective
from sedd.training.precision import PRECISIONS
from sedd.training.schedule import learning_rate
from sedd.training.train_state import fresh_state

root = Path(sedd.__path__[0]).parent
assert root == Path.cwd(), root
(spec,) = load_request(root / "jobs/another.yaml", [
    "diffusion.noise={kind: another, sigma_end: 6}", "diffusion.graph=another", "training.schedule=another",
    "training.optimizer=another", "training.attention=another", "model={hidden: 16, heads: 2, blocks: 1, cond: 8}",
]).experiments
load_profile(root / "slurm/another.yaml")
assert "another" in all_checks()
objective = build_objective(spec.diffusion)
assert objective.noise.total(torch.tensor(1.0)) == 6 == spec.diffusion.noise.total_at_end
assert type(objective.graph).__name__ == "Another"
model = build_model(spec, torch.device("cpu"))
model.attention = spec.training.attention
state = fresh_state(model, spec.training, PRECISIONS["fp32"])
assert type(state.optimizer) is torch.optim.Adam
assert state.shards is None
borders = torch.tensor([0, 5], dtype=torch.int32)
model(torch.arange(5), borders, torch.ones(1), max_length=5).sum().backward()
state.optimizer.step()
late = spec.training.warmup_steps + 1
assert learning_rate(late, spec.training) == spec.training.learning_rate / late
print("all used")
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """A copy of the project with all changes in it, and how many files each of them touched."""
    copy = Copy(tmp_path_factory.mktemp("copy"))
    counts = {}
    for name, change in CHANGES.items():
        copy.touched = set()
        change(copy)
        counts[name] = len(copy.touched)
    return copy.folder, counts


def table() -> dict[str, int]:
    """What the README says: thing → files."""
    text = (ROOT / "README.md").read_text().partition("## Change one thing")[2].partition("\n## ")[0]
    return {
        row[1]: int(row[2]) for row in re.finditer(r"^\| (?!to have)(.+?) \| .* \| (\d+) \|$", text, re.M)
    }


def test_the_readme_counts_the_files_rightly(changed: tuple[Path, dict[str, int]]):
    assert table() == changed[1]


def run(folder: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "PYTHONSAFEPATH": "1",
    }
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_was_added_is_used(changed: tuple[Path, dict[str, int]]):
    assert run(changed[0], "-c", PROBE) == "all used\n"


def test_the_new_command_runs(changed: tuple[Path, dict[str, int]]):
    assert run(changed[0], "-m", "sedd", "another") == "another word\n"
