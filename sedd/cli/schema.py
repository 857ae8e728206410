"""`sedd schema`: JSON Schema for editors."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from sedd.cli.console import print_json


class Kind(StrEnum):
    SPEC = "spec"
    PLAN = "plan"
    PROFILE = "profile"


def command(
    kind: Annotated[
        Kind, typer.Argument(metavar="KIND", help="Specs or plans (jobs/), or profiles (slurm/).")
    ] = Kind.SPEC,
) -> None:
    """Print the JSON Schema of specs, of plans, or of cluster profiles.

    Example: sedd schema > sedd.schema.json
    """
    print_json(_SCHEMAS[kind]())


def _spec_schema() -> dict[str, Any]:
    from pydantic.json_schema import models_json_schema

    from sedd.spec.load import FILES

    kinds, schema = models_json_schema(
        [(file, "serialization") for file in FILES.values()], ref_template="#/$defs/{model}"
    )
    return {"anyOf": list(kinds.values()), **schema}


def _plan_schema() -> dict[str, Any]:
    from sedd.spec.plan import PlanSpec

    return PlanSpec.model_json_schema(mode="serialization")


def _profile_schema() -> dict[str, Any]:
    from pydantic import TypeAdapter

    from sedd.cluster.profile import Profile

    return TypeAdapter[Any](Profile).json_schema(mode="serialization")


# Serialization: durations and amounts of memory are text there, in types and in defaults.
_SCHEMAS = {Kind.SPEC: _spec_schema, Kind.PLAN: _plan_schema, Kind.PROFILE: _profile_schema}
