"""What samples begin with: templates, parents, or nothing. Without torch, so that mistakes are told at once."""

from dataclasses import dataclass

from sedd.design.parents import Parent, read_parents
from sedd.design.templates import Template, read_templates
from sedd.spec.inference import SampleOptions


@dataclass(frozen=True, slots=True)
class Given:
    """What is read from the files of a sampling, or written out in it."""

    templates: tuple[Template, ...] = ()
    parents: tuple[Parent, ...] = ()


def read_given(wanted: SampleOptions) -> Given:
    """Read templates and parents. Raises: DataError, UsageError for what cannot be completed or redesigned."""
    how = wanted.redesign
    parents = read_parents(how.parent, how) if how is not None else []
    return Given(tuple(read_templates(wanted.infill, wanted.template)), tuple(parents))
