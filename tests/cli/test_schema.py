"""`sedd schema`: what editors are told."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sedd.cli.main import build_app

PROJECT = Path(__file__).parents[2]


def schema(kind: str) -> dict[str, Any]:
    result = CliRunner().invoke(build_app(["schema"]), ["schema", kind])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def properties(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of every object in a schema."""
    if isinstance(node, dict):
        for name, each in (node.get("properties") or {}).items() if node.get("type") == "object" else ():
            yield f"{path}.{name}", each
        for name, each in node.items():
            yield from properties(each, f"{path}.{name}")
    elif isinstance(node, list):
        for number, each in enumerate(node):
            yield from properties(each, f"{path}[{number}]")


@pytest.mark.parametrize("kind", ["spec", "plan", "profile"])
def test_every_field_is_described(kind: str):
    whole = schema(kind)
    found = dict(properties(whole))
    assert len(found) > (5 if kind == "plan" else 20)
    # A section whose field says the same as its own first line is described there alone.
    described = {f"#/$defs/{name}" for name, each in whole["$defs"].items() if each.get("description")}
    bare = [
        p for p, each in found.items() if not each.get("description") and each.get("$ref") not in described
    ]
    assert bare == []


@pytest.mark.parametrize("kind", ["spec", "plan", "profile"])
def test_unknown_fields_are_marked_as_wrong(kind: str):
    objects = [n for n in nodes(schema(kind)) if n.get("type") == "object" and "properties" in n]
    assert objects
    assert all(each["additionalProperties"] is False for each in objects)


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(each)


def test_durations_and_amounts_of_memory_are_text_with_text_as_default():
    resources = schema("spec")["$defs"]["ResourcesSpec"]["properties"]
    assert (resources["walltime"]["type"], resources["walltime"]["default"]) == ("string", "1d")
    assert (resources["memory"]["type"], resources["memory"]["default"]) == ("string", "32GiB")


def test_choices_are_listed():
    definitions = schema("spec")["$defs"]
    assert definitions["TrainingSpec"]["properties"]["schedule"]["enum"] == [
        "constant",
        "cosine",
        "inverse_sqrt",
    ]
    kinds = definitions["DiffusionSpec"]["properties"]["noise"]["discriminator"]["mapping"]
    assert set(kinds) == {"loglinear", "geometric", "cosine"}


def test_only_what_has_no_default_is_required():
    kinds = schema("spec")["$defs"]
    assert set(kinds["ExperimentFile"]["required"]) == {"name", "data", "training"}
    assert set(kinds["DataTaskFile"]["required"]) == {"name", "task", "build"}


@pytest.mark.parametrize(("kind", "folder"), [("spec", "jobs"), ("plan", "jobs"), ("profile", "slurm")])
def test_the_projects_own_files_use_only_what_the_schema_offers(kind: str, folder: str):
    import yaml

    whole = schema(kind)
    offered = set(whole.get("properties", {})) | {
        name for each in whole["$defs"].values() for name in each.get("properties", {})
    }
    paths = sorted((PROJECT / folder).glob("*_plan.yaml" if kind == "plan" else "*.yaml"))
    paths = [path for path in paths if (kind == "plan") is path.stem.endswith("_plan")]
    assert paths
    for path in paths:
        assert set(yaml.safe_load(path.read_text())) <= offered, path.name
