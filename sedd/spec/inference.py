"""What is asked of a trained network: the likelihood of given proteins, or new ones. As jobs, and as options."""

from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from sedd.errors import UsageError
from sedd.spec.conditions import Condition, GuidanceOptions
from sedd.spec.redesign import RedesignSpec
from sedd.spec.resources import ResourcesSpec
from sedd.spec.task import TaskSpec
from sedd.yaml import StrictModel

_AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
_LETTERS = f"{_AMINO_ACIDS}XBUZO"
"""What a protein may hold, as `sedd.data.alphabet` has it, which needs numpy."""


class EvaluateOptions(StrictModel):
    """How the likelihood bound is estimated."""

    draws: int = Field(default=16, ge=2)
    """Noise levels a protein: more make the error smaller."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Another seed draws other noise."""
    mask_rates: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    """Shares of residues to hide, whose cross-entropy is reported, too; published: 0.15."""
    condition: Condition = Field(default={})
    """Labels under which the network is asked, as ec=3.2.1; fields that are not named are left open."""


class SampleOptions(GuidanceOptions):
    """Which proteins are drawn, and how."""

    count: int = Field(default=10, ge=1)
    """Proteins; or as many of each template or parent."""
    length: int | tuple[int, int] | None = None
    """Residues, or the shortest and the longest; absent: drawn as in the training data, where longer proteins than
    data.max_length were cut to it."""
    infill: Path | None = None
    """FASTA of templates: _ or ? marks a free position, {5-20}_ 5 to 20 of them; the rest stays."""
    template: tuple[str, ...] = ()
    """A template written out, as MKV{5-20}_GH; or several."""
    redesign: RedesignSpec | None = None
    """Proteins to begin with instead."""
    steps: int = Field(default=128, ge=1)
    """Sampling steps."""
    predictor: Literal["analytic", "euler"] = "analytic"
    """How a step is computed: analytic (Tweedie's formula) is better in few steps, euler is of first order."""
    remask: float = Field(default=0.0, ge=0, le=1000)
    """How often a residue is hidden and drawn again on average (ReMDM; absorbing graph); 0: never."""
    order: Literal["random", "confidence", "margin"] = "random"
    """Which residues appear first: any, or where the network is most certain (absorbing graph)."""
    temperature: float = Field(default=1.0, ge=0.01)
    """Below 1, likely residues are drawn more often; above 1, less often."""
    top_p: float = Field(default=1.0, ge=0.01, le=1)
    """Draw only among the likeliest residues, which together have this probability."""
    omit: str = "XBUZO"
    """Letters that are never drawn, as "XBUZOC" for no cysteine either; "": none."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """The same seed draws the same proteins, if all else is the same, too."""
    condition: Condition = Field(default={})
    """Labels under which the network is asked, as ec=3.2.1; fields that are not named are left open."""

    @field_validator("omit")
    @classmethod
    def _letters_are_residues(cls, omit: str) -> str:
        if strange := "".join(sorted(set(omit.upper()) - set(_LETTERS))):
            raise ValueError(f"omit names '{strange}': letters are {_LETTERS}")
        if not set(_AMINO_ACIDS) - set(omit.upper()):
            raise ValueError("omit names every amino acid: nothing is left to draw")
        return omit.upper()

    @model_validator(mode="after")
    def _guidance_weights_a_condition(self) -> Self:
        if self.guidance != 1 and not self.condition:
            raise ValueError("guidance weights a condition, and there is none: name a condition, as ec=3.2.1")
        return self

    @model_validator(mode="after")
    def _length_makes_sense(self) -> Self:
        given = [name for name in ("infill", "template", "redesign") if getattr(self, name)]
        if given and self.length is not None:
            whose = "parents" if given == ["redesign"] else "templates"
            raise ValueError(f"{given[0]} takes the length of its {whose}: leave length out")
        if self.redesign is not None and len(given) > 1:
            raise ValueError(f"{given[0]} and redesign are both given: give one of them")
        shortest, longest = self.length_range or (1, 1)
        if not 1 <= shortest <= longest:
            seen = "-".join(map(str, dict.fromkeys((shortest, longest))))
            why = (
                "the first number must not be larger than the second"
                if shortest > longest
                else "1 is the shortest"
            )
            raise ValueError(f"invalid length '{seen}': {why}; write 100, or a range as [80, 120]")
        return self

    @property
    def length_range(self) -> tuple[int, int] | None:
        """The shortest and the longest length; None: as in the training data."""
        return (self.length, self.length) if isinstance(self.length, int) else self.length


class ScoreOptions(StrictModel):
    """How mutants are scored beside their wild type; the higher, the better the mutant."""

    methods: tuple[Literal["masked", "wild_type", "orders", "bound"], ...] = Field(
        default=("masked",), min_length=1
    )
    """What is asked: the mutated sites' distribution with them hidden (masked) or seen (wild_type); the same site after
    site in random orders (orders); the likelihood bound of both sequences (bound)."""
    draws: int = Field(default=16, ge=2)
    """For orders and bound: how many orders or noise levels are averaged; more make the error smaller."""
    hidden: float = Field(default=0.05, ge=0, le=1)
    """For orders: beside the mutated sites, a share of the other residues is hidden, drawn from 0 to this."""
    sigma_bar: float | None = Field(default=None, gt=0)
    """For all but bound: the noise level that the network is told; absent: that of what is hidden."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Another seed draws other orders and noise."""
    condition: Condition = Field(default={})
    """Labels under which the network is asked, as ec=3.2.1; fields that are not named are left open."""

    @field_validator("methods")
    @classmethod
    def _once_each(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(methods))


class EmbedOptions(StrictModel):
    """Which hidden states are kept of each protein."""

    layers: tuple[int, ...] = Field(default=(-1,), min_length=1)
    """0: the residues' embedding; k: behind block k; -1: behind the last."""
    pooling: Literal["mean", "none"] = "mean"
    """A vector a protein, the mean over its residues; or one a residue."""
    sigma_bar: float | None = Field(default=None, gt=0)
    """Noise level that the network is told; absent: the cleanest that it was trained on."""
    condition: Condition = Field(default={})
    """Labels under which the network is asked, as ec=3.2.1; fields that are not named are left open."""

    def layer_numbers(self, blocks: int) -> list[int]:
        """Layers of a network of so many blocks, from 0, each once. Raises: UsageError: one that it does not have."""
        for layer in self.layers:
            if not -blocks - 1 <= layer <= blocks:
                raise UsageError(f"there is no layer {layer}: 0 is the embedding, {blocks} the last block")
        return list(dict.fromkeys(layer % (blocks + 1) for layer in self.layers))


Options = TypeVar("Options", bound=StrictModel)


def options_of(kind: type[Options], wanted: StrictModel) -> Options:
    """The options among the fields of a spec's section."""
    return kind.model_validate(wanted.model_dump(include=set(kind.model_fields)))


class EvaluateSpec(EvaluateOptions):
    """Proteins in, their likelihood bound out."""

    network: Path
    """A run's folder, runs/NAME (its newest run; of a sweep the point with the lowest validation bound), a checkpoint
    or an exported folder; relative to the spec's own folder."""
    fasta: tuple[Path, ...] = Field(min_length=1)
    """FASTA files, plain or gzip; relative to the spec's own folder."""
    against: Path | None = None
    """Another network, to compare with on the same noise; as `network`."""
    per_sequence: Literal["csv", "parquet"] | None = "csv"
    """Format of a table with a row a protein; null: none. parquet needs pyarrow."""


class ScoreSpec(ScoreOptions):
    """Mutants in, scores out."""

    network: Path
    """A run's folder, runs/NAME (its newest run; of a sweep the point with the lowest validation bound), a checkpoint
    or an exported folder; relative to the spec's own folder."""
    wild_types: tuple[Path, ...] = ()
    """FASTA files of the wild types; relative to the spec's own folder."""
    mutants: Path | None = None
    """CSV or TSV with a column of mutants or of mutated sequences; absent: all single mutants."""
    offset: int = 0
    """Where the table counts otherwise: 23 if it calls the first residue of the wild type number 24."""
    measured: str | None = None
    """Column of the table to compare scores with, by Spearman's correlation."""
    format: Literal["csv", "parquet"] = "csv"
    """Of the table of scores; parquet needs pyarrow."""
    page: bool = True
    """Write a page with heat maps, scores.html."""
    share: tuple[int, int] = (1, 1)
    """[k, n]: the k-th of n equal shares of the mutants, so that a sweep over k spreads them over n jobs."""

    @model_validator(mode="after")
    def _there_is_something_to_score(self) -> Self:
        if self.mutants is None and not self.wild_types:
            raise ValueError("wild_types names no FASTA file, and there is no table of mutants either")
        number, shares = self.share
        if not 1 <= number <= shares:
            raise ValueError(f"share [{number}, {shares}] must be [k, n] with k from 1 to n")
        return self


class EmbedSpec(EmbedOptions):
    """Proteins in, hidden states out."""

    network: Path
    """A run's folder, runs/NAME (its newest run; of a sweep the point with the lowest validation bound), a checkpoint
    or an exported folder; relative to the spec's own folder."""
    fasta: tuple[Path, ...] = Field(min_length=1)
    """FASTA files, plain or gzip; relative to the spec's own folder."""
    format: Literal["parquet", "npz", "safetensors"] = "safetensors"
    """Of the file of embeddings; parquet needs pyarrow."""


class SampleSpec(SampleOptions):
    """A network in, proteins out."""

    network: Path
    """A run's folder, runs/NAME (its newest run; of a sweep the point with the lowest validation bound), a checkpoint
    or an exported folder; relative to the spec's own folder."""
    report: bool = True
    """Write a page about the samples beside training and held-out proteins; needs parasail."""


class TrainedTask(TaskSpec):
    """Work with a network that is trained already."""

    resources: ResourcesSpec = ResourcesSpec()
    """What one attempt asks of the cluster: `gpus_per_node: 4` shares the work among four processes, a GPU each."""

    @property
    def network(self) -> Path:
        """What the spec names: a run, a sweep, a checkpoint or an exported folder."""
        network: Path = getattr(self, self.task).network
        return network

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files that are read, besides networks."""
        return tuple(path for key, path in self.paths().items() if key[1] not in ("network", "against"))


class EvaluateTask(TrainedTask):
    """The likelihood bound of given proteins; the run's folder holds evaluation.json and a table."""

    task: Literal["evaluate"]
    """Selects the evaluation of a trained network."""
    evaluate: EvaluateSpec
    """Which network, on what."""


class SampleTask(TrainedTask):
    """New proteins; the run's folder holds samples/samples.fasta, redesigns.csv and a report."""

    task: Literal["sample"]
    """Selects sampling from a trained network."""
    sample: SampleSpec
    """Which network, and what to draw."""


class ScoreTask(TrainedTask):
    """Scores of mutants; the run's folder holds scores.csv, scores.json and scores.html."""

    task: Literal["score"]
    """Selects the scoring of mutants."""
    score: ScoreSpec
    """Which network, and which mutants."""


class EmbedTask(TrainedTask):
    """Hidden states of proteins; the run's folder holds embeddings.safetensors or another format."""

    task: Literal["embed"]
    """Selects embedding with a trained network."""
    embed: EmbedSpec
    """Which network, and which proteins."""
