"""What samples begin with: templates, parents, or nothing. Without torch, so that mistakes are told at once."""

from dataclasses import dataclass

from sedd.design.parents import Parent, read_parents
from sedd.design.templates import Template, read_templates
from sedd.errors import UsageError
from sedd.spec.inference import SampleOptions


@dataclass(frozen=True, slots=True)
class Given:
    """What is read from the files of a sampling, or written out in it."""

    templates: tuple[Template, ...] = ()
    parents: tuple[Parent, ...] = ()

    @property
    def longest(self) -> int:
        """Residues of the longest protein that may be drawn; 0 where nothing is given."""
        return max(
            (*(template.longest for template in self.templates), *(len(p.tokens) for p in self.parents)),
            default=0,
        )


def require_length(wanted: SampleOptions, given: Given, longest: int) -> int:
    """Residues of the longest protein that may be drawn; 0 where lengths are those of the training data.

    Raises:
        UsageError: it is longer than `longest`, that of the training data.
    """
    asked = given.longest or max(wanted.length_range or (0,))
    if asked > longest:
        raise UsageError(
            f"up to {asked} residues are asked for, and the network was trained on at most {longest}",
            hint="for longer proteins, train with a larger data.max_length",
        )
    return asked


def read_given(wanted: SampleOptions) -> Given:
    """Read templates and parents. Raises: DataError, UsageError for what cannot be completed or redesigned."""
    how = wanted.redesign
    parents = read_parents(how.parent, how) if how is not None else []
    return Given(tuple(read_templates(wanted.infill, wanted.template)), tuple(parents))
