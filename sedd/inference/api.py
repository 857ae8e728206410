"""The Python API: `sedd.load` returns a `Network`; sequences go in as text, numbers come out as numpy arrays."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from sedd.complaints import clip, parse_problem, shown
from sedd.data.alphabet import GAP_LETTERS, encode
from sedd.data.records import Record
from sedd.design.given import Given, read_given
from sedd.design.parents import parse_parent
from sedd.design.redesigns import Redesign
from sedd.diffusion.conditional import cleanest_level, hidden_level
from sedd.errors import DataError, SeddError, UsageError
from sedd.inference.conditionals import Query, read_conditionals
from sedd.inference.embed import embed
from sedd.inference.evaluation import Evaluation, evaluate, read_proteins
from sedd.inference.generation import draw_samples
from sedd.inference.load_network import Trained, find_trained, load_trained
from sedd.inference.pack import batches, pack
from sedd.inference.score import Scores, score_table
from sedd.inference.variant_table import parse_variants
from sedd.inference.variants import scan
from sedd.rundir.find import runs_root
from sedd.spec.conditions import GuidanceOptions
from sedd.spec.inference import EmbedOptions, EvaluateOptions, SampleOptions, ScoreOptions
from sedd.units import counted
from sedd.yaml import StrictModel

Options = TypeVar("Options", bound=StrictModel)

HIDDEN = "_?"
"""Letters that hide a position."""


@contextlib.contextmanager
def _telling_hints() -> Iterator[None]:
    """A traceback shows the hint of an error below its message."""
    try:
        yield
    except SeddError as e:
        note = f"hint: {e.hint}"
        if e.hint and note not in getattr(e, "__notes__", ()):
            e.add_note(note)
        raise


class Network:
    """A trained network. All methods take sequences as text, one or a list, and keep their order."""

    def __init__(self, trained: Trained) -> None:
        self.trained = trained
        """What the checkpoint holds: the model, the objective, the experiment."""

    def __repr__(self) -> str:
        count = sum(weight.numel() for weight in self.trained.model.parameters())
        about = f"{self.trained.run}, step {self.trained.step}, {count:,} parameters, {self.trained.device}"
        under = self.trained.asked.text
        return f"<Network {about}, under {under}>" if under else f"<Network {about}>"

    @_telling_hints()
    def under(self, condition: Mapping[str, str | int | float], **guidance: Any) -> "Network":
        """This network under a condition such as {"ec": "3.2.1"}: whatever it is asked then is asked under it.

        Options as `GuidanceOptions`, for sampling and likelihoods: guidance, guide, guide_weight, guide_changes. What a
        later call names, a condition or one of these, takes the place of that alone.
        """
        if not isinstance(condition, Mapping):
            raise UsageError(
                f'condition is {shown(condition)}; it must be a mapping such as {{"ec": "3.2.1"}}'
            )
        kept = self.trained.asked.guidance.model_dump()
        how = _options(GuidanceOptions, {**kept, **guidance})
        return Network(self.trained.under(condition, how, notify=_warn))

    @_telling_hints()
    def logits(
        self, sequences: str | Sequence[str], *, sigma_bar: float | None = None
    ) -> list[NDArray[np.float32]]:
        """The raw output for each sequence: [length, 33], in the order of `sedd.data.alphabet.TOKENS`.

        `_` and `?` stand for hidden residues. `sigma_bar` is the noise level; absent: that of as many hidden residues.
        """
        queries, found = self._queries(sequences, sigma_bar), []
        for first, stop in batches([len(query.tokens) for query in queries], self.trained.batch_residues):
            part = queries[first:stop]
            tokens, borders, longest = pack([query.tokens for query in part], self.trained.device)
            levels = torch.tensor([query.sigma_bar for query in part], device=tokens.device)
            raw = self.trained.network(borders, longest)(tokens, levels).cpu().numpy()
            found += np.split(raw, borders[1:-1].tolist())
        return found

    @_telling_hints()
    def log_probabilities(
        self, sequences: str | Sequence[str], *, sigma_bar: float | None = None
    ) -> list[NDArray[np.float64]]:
        """ln p(residue | the rest of the sequence) at each position: [length, 33].

        Residues that are seen are read as if they were hidden: on the absorbing graph nothing trains that; hide them
        for an exact reading.
        """
        queries = self._queries(sequences, sigma_bar)
        return list(read_conditionals(self.trained.denoiser(), queries, as_if_hidden=True))

    @_telling_hints()
    def embed(self, sequences: str | Sequence[str], **options: Any) -> dict[str, Any]:
        """Hidden states by layer's name; options as `EmbedOptions`: layers, pooling, sigma_bar.

        With pooling "mean" (the default) an array [sequences, hidden]; with "none" a list of [length, hidden].
        """
        tokens = [self._encode(text) for text in _listed(sequences)]
        how = _options(EmbedOptions, {**self._condition(), **options})
        found = embed(self.trained.under(how.condition, notify=_warn), tokens, how)
        if how.pooling == "mean":
            return dict(found)
        edges = np.cumsum([len(one) for one in tokens])[:-1]
        return {name: np.split(rows, edges) for name, rows in found.items()}

    @_telling_hints()
    def score(
        self,
        wild_type: str,
        mutants: str | Sequence[str] | None = None,
        *,
        offset: int = 0,
        **options: Any,
    ) -> Scores:
        """Scores of mutants such as `A24G:L30P` or whole sequences, or of all single mutants; nats, high is good.

        Options as `ScoreOptions`: methods, draws, hidden, sigma_bar, seed. `offset` is what the numbers in names add
        to places in the wild type.
        """
        record = Record("wild type", _text(wild_type, "wild_type"))
        if not isinstance(offset, int):
            raise UsageError(f"offset is {shown(offset)}; it must be a whole number")
        table = (
            scan([record], offset=offset)
            if mutants is None
            else parse_variants(record, _listed(mutants, "mutants"), offset=offset)
        )
        how = _options(ScoreOptions, {**self._condition(), **options})
        found = score_table(self.trained.under(how.condition, notify=_warn), table, how)
        if found.windows:
            around = f"the {self.trained.longest} residues around the mutation"
            _warn(f"{counted(found.windows, 'mutant')} scored by {around}")
        return found

    @_telling_hints()
    def sample(self, count: int = 1, **options: Any) -> list[str]:
        """New sequences; options as `SampleOptions`: length, template, steps, remask, order, temperature, seed, …

        With templates, `count` draws of each. Under condition, as {"ec": "3.2.1"}, with guidance; or by a guide.
        """
        if "redesign" in options:
            raise UsageError("sample begins with no parent", hint="use redesign(parent, count, …)")
        options["template"] = _listed(options["template"]) if "template" in options else ()
        wanted = _options(SampleOptions, {"count": count, **self._asked(), **options})
        trained = self.trained.under(wanted.condition, wanted.guiding, notify=_warn)
        samples = draw_samples(trained, wanted, read_given(wanted), lambda done, of: None, _warn)
        return [one.sequence for one in samples]

    @_telling_hints()
    def redesign(
        self,
        parent: str,
        count: int = 1,
        *,
        noise: float = 0.3,
        keep: str = "",
        max_mutations: int | None = None,
        **options: Any,
    ) -> list[tuple[str, Redesign]]:
        """Distinct redesigns of a parent, each with its mutations, identity and score; at most `count`.

        A share `noise` of the residues is hidden and drawn anew; `keep`, as "24-60,88", names positions that stay.
        Further options as `SampleOptions`.
        """
        far = {"noise": noise, "keep": keep, "max_mutations": max_mutations, "parent": "parent"}
        wanted = _options(
            SampleOptions, {"count": count, "redesign": far, **self._asked(), **options}, "redesign."
        )
        assert wanted.redesign is not None
        given = Given(parents=(parse_parent(Record("parent", _text(parent, "parent")), wanted.redesign),))
        trained = self.trained.under(wanted.condition, wanted.guiding, notify=_warn)
        samples = draw_samples(trained, wanted, given, lambda done, of: None, _warn)
        return [(one.sequence, one.redesign) for one in samples if one.redesign is not None]

    @_telling_hints()
    def evaluate(self, sequences: str | Sequence[str], **options: Any) -> Evaluation:
        """The likelihood bound of sequences; options as `EvaluateOptions`: draws, seed, condition.

        `columns()` has a row for each sequence; `bound` a column for each different one. What is removed, read as X, or
        cut to the longest that the network was trained on is warned of.
        """
        records = [Record(str(number), text) for number, text in enumerate(_listed(sequences))]
        longest = self.trained.longest
        proteins = read_proteins(records, longest=longest)
        how = _options(EvaluateOptions, {**self._condition(), **options})
        trained = self.trained.under(how.condition, notify=_warn)
        found = evaluate(trained, proteins, how=how, progress=lambda done: None)
        for remark in found.remarks(longest=longest):
            _warn(remark)
        return found.as_given()

    def _asked(self) -> dict[str, Any]:
        """Condition and guidance of this network as options: what a call does not name stays."""
        return {**self._condition(), **self.trained.asked.guidance.model_dump()}

    def _condition(self) -> dict[str, Any]:
        return {"condition": self.trained.asked.condition}

    def _queries(self, sequences: str | Sequence[str], sigma_bar: float | None) -> list[Query]:
        sigma_bar = _options(EmbedOptions, {"sigma_bar": sigma_bar}).sigma_bar
        objective, queries = self.trained.objective, []
        for text in _listed(sequences):
            hidden = np.array([letter in HIDDEN for letter in text])
            tokens = self._encode("".join("X" if letter in HIDDEN else letter for letter in text))
            if len(tokens) != len(hidden):
                raise DataError(f"{text[:30]!r} holds spaces or a stop: positions would shift")
            if hidden.any():
                tokens[hidden] = self.trained.denoiser().hiding[0]
            count = int(hidden.sum())
            level = hidden_level(objective.graph, objective.noise, count, len(text))
            level = level if count else cleanest_level(objective.noise)
            queries.append(Query(tokens, sigma_bar or level, tuple(range(len(text)))))
        return queries

    def _encode(self, text: str) -> NDArray[np.uint8]:
        if os.path.isfile(text):
            raise UsageError(f"{text} is a file; sequences are text", hint="read its sequences first")
        tokens = encode(text)
        if not len(tokens):
            raise DataError("a sequence is empty")
        if any(gap in text for gap in GAP_LETTERS):
            raise DataError(f"{text[:30]!r} holds a gap, of which the network knows nothing: leave gaps out")
        if len(tokens) > self.trained.longest:
            raise UsageError(
                f"a sequence has {len(tokens)} residues; the network was trained on at most {self.trained.longest}"
            )
        return tokens


@_telling_hints()
def open_network(network: str | os.PathLike[str], *, device: str | None = None) -> Network:
    """As `sedd.load`, which imports this when it is called."""
    path = find_trained(_text(network, "network"), runs_root(), notify=_warn)
    return Network(load_trained(path, None if device is None else _usable(device)))


def _usable(device: str) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as e:
        reason = str(e).splitlines()[0]
        raise UsageError(f"device is {shown(device)}: {clip(reason)}", hint="cpu, cuda or cuda:0") from e


def _text(given: object, name: str) -> str:
    if not isinstance(given, str | os.PathLike) or not str(given):
        raise UsageError(f"{name} is {shown(given)}; it must be text")
    return os.fspath(given)


def _listed(given: str | Sequence[str], what: str = "sequences") -> list[str]:
    is_one = isinstance(given, str | Mapping) or not isinstance(given, Iterable)
    found: list[Any] = [given] if is_one else list(given)
    if any(not isinstance(text, str) for text in found):
        raise UsageError(f"{what} are text, one or a list of them, not {clip(repr(given))}")
    if not found:
        raise DataError(f"there are no {what}")
    return found


def _options(kind: type[Options], given: dict[str, Any], within: str = "") -> Options:
    """Raises: UsageError, which names the fields of the section `within` as arguments."""
    try:
        return kind.model_validate(given)
    except ValidationError as e:
        problem = parse_problem(e.errors()[0], kind, given, lambda key: "")
        hint = problem.hint.replace(within, "") if problem.hint else None
        raise UsageError(problem.what.replace(within, ""), hint=hint) from e


def _warn(text: str) -> None:
    import warnings

    warnings.warn(text, stacklevel=2)
