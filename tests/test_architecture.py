"""The doors between the rooms of sedd/, and what an import may cost."""

import ast
import graphlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sedd

PACKAGE = Path(sedd.__path__[0])

BASE = {
    "alive",
    "errors",
    "units",
    "yaml",
    "yaml_tree",
    "yaml_text",
    "complaints",
    "home",
    "waiting",
    "cuda_order",
}
PURE = {"diffusion"}
DOORS: dict[str, set[str]] = {
    "errors": set(),
    "units": set(),
    "complaints": {"errors"},
    "home": {"errors"},
    "yaml": {"errors", "units", "complaints", "yaml_tree"},
    "yaml_tree": {"errors", "complaints"},
    "yaml_text": set(),
    "alive": set(),
    "waiting": set(),
    "cuda_order": set(),
    "spec": BASE,
    "config": BASE,
    "rundir": {"alive", "cuda_order", "errors", "home", "config", "waiting", "yaml_text"},
    "notify": {"rundir", "config", *BASE},
    "diffusion": set(),
    "model": {"spec"},
    "data": {"alive", "spec", "errors", "home", "units", "charts"},
    "conditions": {"data", "diffusion", "spec", *BASE},
    "charts": {"units"},
    "page": set(),
    "quality": {"data", "errors", "charts", "page"},
    "design": {"data", "spec", *BASE},
    "finetune": {"model", "spec", "rundir", *BASE},
    "training": {"conditions", "diffusion", "model", "data", "quality", "finetune", "spec", "rundir", *BASE},
    "cluster": {"config", *BASE},
    "cluster_init": {"cluster", *BASE},
    "inference": {
        *("training", "diffusion", "model", "data", "quality", "charts", "page", "spec", "rundir"),
        *("conditions", "design", "finetune"),
        *BASE,
    },
    "halving": {"rundir", *BASE},
    "launch": {"finetune", "halving", "notify", "spec", "cluster", "rundir", *BASE},
    "experiments": {"halving", "launch", "spec", "cluster", "rundir", "charts", "page", *BASE},
    "amend": {"launch", "spec", "cluster", "rundir", *BASE},
    "soonest": {"launch", "spec", "cluster", "rundir", *BASE},
    "job": {"halving", "launch", "notify", "spec", "cluster", "rundir", *BASE},
    "preflight": {"finetune", "spec", "cluster", "rundir", "data", "conditions", "design", *BASE},
    "monitor": {"cluster", "rundir", "charts", "page", *BASE},
    "cli": {"*"},
    "__main__": {"cli"},
}
"""Room → rooms that it may import: the table of the design."""

INSIDE_FUNCTIONS: dict[str, set[str]] = {
    "job": {"training", "inference", "preflight", "data", "amend", "soonest"},
    "preflight": {"soonest"},  # on the login node
    "": {"inference"},  # sedd.load
}
"""Rooms that may be imported inside functions (or for types) only: the job's own steps, on the compute node."""

SINGLE_FILES: set[tuple[str, str, bool]] = {
    ("data", "sedd.conditions.label_fields", False),  # labels as a store's manifest and files have them
    ("data", "sedd.conditions.label_table", False),  # the table that a build looks names up in
    ("data", "sedd.rundir.node_folder", False),  # what makes a folder of a node private
    ("soonest", "sedd.model.size", False),  # the parameter count in closed form, without torch
    ("preflight", "sedd.inference.correlation", True),  # whether a measured column holds numbers
    ("preflight", "sedd.inference.variant_table", True),  # whether mutants fit their wild types
    ("preflight", "sedd.inference.variants", True),  # whether a method scores them
    ("preflight", "sedd.model.adamw", True),  # the optimiser of that step
    ("preflight", "sedd.model.size", False),  # the same
    ("preflight", "sedd.model.attention", True),  # the kernel that a node must compute rightly
    ("preflight", "sedd.model.block_ops", True),  # the kernels that a node must compile and compute rightly
    ("preflight", "sedd.model.tiled_sizes", False),  # memory of attention in closed form, without torch
    ("preflight", "sedd.model.transformer", True),  # the network whose real step a node must hold
}
"""One file behind an otherwise closed door, and whether it may be imported inside functions only."""


def modules() -> list[str]:
    files = PACKAGE.rglob("*.py")
    dotted = (".".join(("sedd", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in files)
    return sorted(name.removesuffix(".__init__") for name in dotted)


def source(module: str) -> ast.Module:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(tree: ast.AST, *, inside: bool = False) -> Iterator[tuple[str, bool]]:
    """Every imported module of ours, and whether the import waits inside a function."""
    for node in ast.iter_child_nodes(tree):
        within = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_for_types(node)
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError(f"relative import in line {node.lineno}")
            yield from (
                (
                    f"{node.module}.{alias.name}"
                    if f"{node.module}.{alias.name}" in ALL
                    else str(node.module),
                    inside,
                )
                for alias in node.names
            )
        else:
            yield from imports(node, inside=within)


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


ALL = set(modules())


def trespasses(module: str) -> list[str]:
    """Imports of other rooms for which this room has no door."""
    own, wrong = room(module), []
    for imported, inside in imports(source(module)):
        target = room(imported)
        if not imported.startswith("sedd.") or target == own:
            continue
        allowed = DOORS.get(own, set()) | (INSIDE_FUNCTIONS.get(own, set()) if inside else set())
        if (
            target not in allowed
            and "*" not in allowed
            and not {(own, imported, False), (own, imported, inside)} & SINGLE_FILES
        ):
            wrong.append(f"{module} imports {imported}{' inside a function' if inside else ''}")
    return wrong


def test_every_room_is_in_the_table():
    assert {room(module) for module in modules()} - {""} == set(DOORS)


@pytest.mark.parametrize("module", modules())
def test_rooms_talk_only_through_their_doors(module: str):
    assert trespasses(module) == []


def modules_it_needs(module: str) -> set[str]:
    """What a module imports of its own room when it is imported itself."""
    return {name for name, inside in imports(source(module)) if not inside and room(name) == room(module)}


@pytest.mark.parametrize("name", ["job", "launch", "experiments", "cluster", "rundir"])
def test_the_files_of_a_room_do_not_import_each_other_in_a_circle(name: str):
    graph = {module: modules_it_needs(module) for module in modules() if room(module) == name}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_login_nodes_half_never_imports_the_compute_nodes():
    assert "job" not in DOORS["launch"] | INSIDE_FUNCTIONS.get("launch", set())
    assert "launch" in DOORS["job"]


ONE_MEANING = {
    "attention": "the kernels, and the check of them",
    "environment": "environment variables of a job, and the check of them",
    "precision": "the number format, and the check of it",
    "setup": "the profile's setup lines, and the check of them",
    "submit_limits": "the site's limits, and the check of them",
}
"""Base names in two rooms, each with the one thing that both are about."""


def test_a_file_name_has_one_meaning():
    """A command, or a section of the spec, is called as what it is about: those pairs are fine."""
    rooms: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        if not path.stem.startswith("__"):
            rooms.setdefault(path.stem, set()).add(path.relative_to(PACKAGE).parts[0])
    shared = {name for name, where in rooms.items() if len(where - {"cli", "spec"}) > 1}
    assert shared == set(ONE_MEANING)


@pytest.mark.parametrize("module", modules())
def test_private_names_stay_in_their_file(module: str):
    names = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(source(module))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("sedd")
        for alias in node.names
        if alias.name.startswith("_") and alias.name != "__version__"
    ]
    assert names == []


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda p: p.parent.name)
def test_an_init_file_holds_at_most_a_docstring(path: Path):
    """The package's own also holds the version, and the public API: `load`, which imports when it is called."""
    body = ast.parse(path.read_text()).body
    if path.parent == PACKAGE:
        docstring, typing, for_types, version, load = body
        assert ast.unparse(typing) == "from typing import TYPE_CHECKING"
        assert is_for_types(for_types)
        assert isinstance(version, ast.Assign)
        assert ast.unparse(version.targets[0]) == "__version__"
        assert isinstance(load, ast.FunctionDef)
        assert load.name == "load"
        body = [docstring]
    assert all(isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant) for n in body)
    assert len(body) <= 1


def test_only_the_launch_room_knows_submitit():
    users = {
        room(m) for m in modules() if any(name.split(".")[0] == "submitit" for name, _ in imports(source(m)))
    }
    assert users == {"launch"}


def test_only_the_cluster_room_names_slurms_commands():
    commands = {"sbatch", "squeue", "scontrol", "sacct", "scancel", "sinfo", "srun"}
    users = {
        m
        for m in modules()
        if room(m) != "cluster"
        for node in ast.walk(source(m))
        if isinstance(node, ast.List) and node.elts
        if isinstance(node.elts[0], ast.Constant) and node.elts[0].value in commands
    }
    assert users == set()


def test_only_one_file_looks_up_home_folders():
    """`Path.expanduser` raises a RuntimeError, and `os.path.expanduser` leaves a `~` that nobody knows as it is."""
    users = {
        m
        for m in modules()
        for node in ast.walk(source(m))
        if isinstance(node, ast.Attribute) and node.attr in ("expanduser", "home")
    }
    assert users == {"sedd.home"}


PROBE = """
import json, logging, os, signal, sys
state = lambda: {
    "environment": dict(os.environ),
    "handlers": [str(signal.getsignal(s)) for s in signal.valid_signals()],
    "logging": [str(h) for h in logging.getLogger().handlers] + [logging.getLogger().level],
    "folder": os.getcwd(),
    "files": sorted(os.listdir(".")),
}
before = state()
__import__(sys.argv[1])
after = state()
print(json.dumps({
    "changed": [key for key in before if before[key] != after[key]],
    "loaded": sorted({name.split(".")[0] for name in sys.modules}),
}))
"""


def look(module: str, folder: Path, *, first: str = "") -> dict[str, list[str]]:
    """What importing a module in a fresh interpreter changes and loads."""
    environment = {**os.environ, "PYTHONPATH": f"{PACKAGE.parent}{os.pathsep}{folder}"}
    done = subprocess.run(
        [sys.executable, "-c", first + PROBE, module],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "importing says nothing"
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


LIGHT = ["submit", "status", "logs", "cancel", "requeue", "preflight", "compare", "usage"]
NEVER_ON_A_LOGIN_NODE = {"torch", "wandb", "pynvml", "einops", "jaxtyping"}


@pytest.mark.parametrize("command", LIGHT)
def test_a_login_node_command_imports_neither_torch_nor_wandb(command: str, tmp_path: Path):
    loaded = set(look(f"sedd.cli.{command}", tmp_path)["loaded"])
    assert loaded & NEVER_ON_A_LOGIN_NODE == set()


@pytest.mark.parametrize("module", ["sedd.cli.status", "sedd.cli.main", "sedd.cli.logs"])
def test_what_is_called_often_imports_next_to_nothing(module: str, tmp_path: Path):
    assert set(look(module, tmp_path)["loaded"]) & {"pydantic", "numpy", "submitit", "yaml"} == set()


TORCH_FREE = ["design", "spec", "rundir", "cluster", "monitor", "preflight", "launch", "experiments", "job"]


def test_the_public_api_costs_nothing_until_it_is_called(tmp_path: Path):
    assert set(look("sedd", tmp_path)["loaded"]) & {*NEVER_ON_A_LOGIN_NODE, "numpy", "pydantic"} == set()


def test_whole_rooms_are_free_of_torch(tmp_path: Path):
    program = "\n".join(f"import {m}" for m in modules() if room(m) in TORCH_FREE)
    (tmp_path / "all_of_them.py").write_text(program)
    assert set(look("all_of_them", tmp_path)["loaded"]) & {"torch", "wandb"} == set()


def test_importing_does_nothing(tmp_path: Path):
    """Every module at once, after the libraries that have habits of their own."""
    libraries = "import torch, submitit, wandb, einops, jaxtyping, pydantic, typer, rich, numpy\n"
    (tmp_path / "libraries.py").write_text(libraries)
    (tmp_path / "everything.py").write_text(
        "\n".join(f"import {m}" for m in modules() if m != "sedd.__main__")
    )
    before = "import sys; sys.dont_write_bytecode = True; import libraries\n"
    assert look("everything", tmp_path, first=before)["changed"] == []


def test_the_doors_are_really_looked_at(monkeypatch: pytest.MonkeyPatch):
    """A door that is closed makes the test above fail."""
    monkeypatch.setitem(DOORS, "monitor", set())
    assert any(trespasses(module) for module in modules() if room(module) == "monitor")
