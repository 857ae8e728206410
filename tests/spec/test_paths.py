"""Every file that a spec names is known as one: made absolute, hashed for plans, looked at by a check."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from sedd.complaints import inner_models
from sedd.experiments.inputs import OUTPUTS, content_of, inputs_of
from sedd.preflight.check import checks_of
from sedd.preflight.context import Side
from sedd.spec.command import CommandTask
from sedd.spec.load import load_request
from sedd.spec.task import EVERY, path_keys
from sedd.spec.tasks import TASKS

TEXTS = {
    "column",
    "condition",
    "entity",
    "fields",
    "freeze",
    "guide",
    "keep",
    "label_numbers",
    "measured",
    "name",
    "name_column",
    "omit",
    "project",
    "run",
    "stage",  # a folder of the node, to which inputs are copied
    "tags",
    "template",
}
"""Fields of free text that name no file. A new one is asked about here: one that names a file has the type Path."""

NOT_REQUIRED = {("training", "init"), ("training", "init", "validation")}
"""The short form of `init.network`; and a store without which a training runs all the same."""


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inner in inner_models(field.annotation):
            yield from models(inner)


def holders(kind: Any, wanted: type, within: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The containers around each place where a type stands within another."""
    if kind is wanted:
        yield within
    origin = get_origin(kind)
    inner = get_args(kind)[:1] if origin is Annotated else get_args(kind)
    for argument in inner:
        yield from holders(argument, wanted, (*within, origin) if isinstance(origin, type) else within)


def every_field() -> Iterator[tuple[str, Any]]:
    for task in TASKS.values():
        for model in models(task):
            yield from ((name, field.annotation) for name, field in model.model_fields.items())


def test_a_field_of_free_text_names_no_file() -> None:
    assert {name for name, kind in every_field() if list(holders(kind, str))} == TEXTS


def test_paths_stand_alone_or_in_tuples_where_they_are_found() -> None:
    within = {kind for _, field in every_field() for kinds in holders(field, Path) for kind in kinds}
    assert {kind for kind in within if kind.__name__ not in ("Union", "UnionType")} == {tuple}


def test_a_word_of_a_command_that_names_a_file_beside_the_spec_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "fold.py").touch()
    (tmp_path / "spec.yaml").write_text(
        "name: fold\ntask: command\n"
        'command: {run: [python, fold.py, other.py, "{fasta}", "{out}"], fasta: p.fasta, column: x}\n'
    )
    (task,) = load_request(tmp_path / "spec.yaml", ()).experiments
    assert isinstance(task, CommandTask)
    assert task.command.run == ("python", str(tmp_path / "fold.py"), "other.py", "{fasta}", "{out}")
    assert task.file_words() == (tmp_path / "fold.py",)
    assert tmp_path in task.folders(), "a container sees it"
    before = inputs_of(task, needs={}, made=()).data
    (tmp_path / "fold.py").write_text("print()\n")
    content_of.cache_clear()
    assert inputs_of(task, needs={}, made=()).data != before, "a plan runs its stage again"


def test_every_path_is_an_input_that_a_check_of_the_login_node_reads_or_an_output() -> None:
    for name, task in TASKS.items():
        sections = [section for check in checks_of(Side.LOGIN, task).values() for section in check.reads]
        for pattern in path_keys(task):
            key = tuple(part for part in pattern if part != EVERY)
            read = any(key[: len(section)] == section for section in sections)
            assert read != (key in OUTPUTS) or key in NOT_REQUIRED, (name, key)
