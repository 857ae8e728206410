"""A spec's section as options of a command."""

import inspect
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from sedd.cli.model_options import validated, with_options_of
from sedd.errors import UsageError
from sedd.spec.inference import SampleOptions
from sedd.yaml import StrictModel


class Inner(StrictModel):
    """A section that may be absent."""

    where: str
    """Needed if anything of the section is."""
    how_much: float = Field(default=0.5, gt=0, le=1)
    """A share."""


class Wanted(StrictModel):
    """What is asked for."""

    count: int = Field(default=3, ge=1)
    """How many."""
    kind: Literal["one", "other"] = "one"
    """Which."""
    inner: Inner | None = None
    """A section."""


def typed(*arguments: str) -> Wanted:
    app, found = typer.Typer(), []

    @app.command()
    @with_options_of(Wanted, names={"count": ("--count", "-n")}, settings={})
    def command(*, run: str = typer.Argument(), given: dict[str, Any]) -> None:
        assert run == "it"
        found.append(validated(Wanted, given))

    result = CliRunner().invoke(app, ["it", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return found[0]


def test_fields_are_options_with_their_own_defaults():
    assert typed() == Wanted()
    assert typed("-n", "5", "--kind", "other") == Wanted(count=5, kind="other")


def test_fields_of_a_section_are_options_and_the_section_is_absent_without_any():
    assert typed("--where", "here").inner == Inner(where="here")
    assert typed("--where", "here", "--how-much", "0.25").inner == Inner(where="here", how_much=0.25)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--kind", "third"], "--kind is 'third'; it must be 'one' or 'other'"),
        (["--where", "x", "--how-much", "0"], "--how-much is 0.0; it must be greater than 0"),
    ],
)
def test_what_is_wrong_is_told_as_an_option(arguments: list[str], told: str):
    with pytest.raises(UsageError) as caught:
        typed(*arguments)
    assert caught.value.message == told


class Many(StrictModel):
    """Fields of several values."""

    rates: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.5,)
    """Shares."""
    kinds: tuple[Literal["one", "other"], ...] = ("one",)
    """Which."""


def test_a_field_of_many_values_is_an_option_that_may_be_repeated():
    app, found = typer.Typer(), []
    app.command()(with_options_of(Many)(lambda *, given: found.append(validated(Many, given))))
    runner = CliRunner()
    for arguments in ([], ["--rate", "0.1", "--rate", "1", "--kind", "other"]):
        assert runner.invoke(app, arguments).exit_code == 0
    assert found == [Many(), Many(rates=(0.1, 1.0), kinds=("other",))]
    with pytest.raises(UsageError, match=r"^--rate is 2\.0; it must be less than or equal to 1$"):
        runner.invoke(app, ["--rate", "2"], catch_exceptions=False)


def test_a_share_in_percent_is_offered_as_a_share():
    for percent, meant in (("15", "0.15"), ("100", "1"), ("2", "0.02")):
        with pytest.raises(UsageError) as caught:
            validated(Wanted, {"where": "here", "how_much": float(percent)})
        assert caught.value.hint == f"did you mean {meant}?"
    for no_percentage in (101.0, 1.5):
        with pytest.raises(UsageError) as caught:
            validated(Wanted, {"where": "here", "how_much": no_percentage})
        assert caught.value.hint is None


def test_an_option_of_a_section_names_the_one_that_it_belongs_to():
    with pytest.raises(UsageError) as caught:
        typed("--how-much", "0.25")
    assert caught.value.message == "--how-much belongs to --where, which is missing"
    assert caught.value.hint == "--where: Needed if anything of the section is."


class Table(StrictModel):
    """What names other fields in its texts."""

    labels: str = ""
    """A table."""
    label_numbers: tuple[str, ...] = ()
    """Columns of `labels`; a `cpu` is no field."""
    most: int = 3
    """Of `label_numbers`."""


def test_a_help_names_options_where_a_docstring_names_fields():
    @with_options_of(Table)
    def command(*, given: dict[str, Any]) -> None:
        pass

    helps = {
        p.name: p.annotation.__metadata__[0].help for p in inspect.signature(command).parameters.values()
    }
    assert helps["label_numbers"] == "Columns of --labels; a `cpu` is no field."
    assert helps["most"] == "Of --label-number."


@pytest.mark.parametrize("given", [{"guide_weight": 2.0}, {"guide_changes": "exact"}])
def test_how_a_guide_counts_needs_a_guide(given: dict[str, Any]) -> None:
    option = f"--{next(iter(given)).replace('_', '-')}"
    with pytest.raises(UsageError, match=f"^{option} needs a guide, as NAME=TARGET"):
        validated(SampleOptions, given)
    assert validated(SampleOptions, given | {"guide": "soluble=1"}).guide == "soluble=1"


def test_guidance_without_a_condition_is_refused_before_a_network_is_loaded() -> None:
    with pytest.raises(UsageError, match=r"^--guidance weights a condition, and there is none"):
        validated(SampleOptions, {"guidance": 2.0})
    assert validated(SampleOptions, {"guidance": 2.0, "condition": {"ec": "3.2.1"}}).guidance == 2
