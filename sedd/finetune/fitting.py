"""Whether a spec can start from a parent, and which parameters then learn. Torch-free: preflight asks, too."""

import math
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from sedd.errors import CheckpointError, did_you_mean
from sedd.finetune.parent import Parent
from sedd.model.size import MLP_FACTOR, SINUSOIDS, VOCABULARY, WAVES
from sedd.spec.conditions import CategorySpec, ConditionsSpec, LabelSpec
from sedd.spec.experiment import Experiment
from sedd.spec.model import ModelSpec
from sedd.spec.training import TrainingSpec
from sedd.units import counted

Shapes = dict[str, tuple[int, ...]]


def require_fit(parent: Parent, experiment: Experiment) -> None:
    """Raise CheckpointError with everything in which a parent and a spec differ that has to be equal."""
    if problems := differences(parent, experiment):
        raise CheckpointError(
            f"cannot start from {parent.run}, step {parent.step}: {'; '.join(problems)}",
            hint="model and diffusion must be the parent's: copy them from its spec.yaml",
        )


def differences(parent: Parent, experiment: Experiment) -> list[str]:
    """What keeps a training from starting with the parent's weights, in words; [] if nothing does."""
    theirs, ours = parent.experiment, experiment
    pairs = [
        *((f"model.{n}", getattr(theirs.model, n), getattr(ours.model, n)) for n in _SHAPE),
        ("diffusion.graph", theirs.diffusion.graph, ours.diffusion.graph),
        (
            "diffusion.parameterization",
            theirs.diffusion.parameterization,
            ours.diffusion.parameterization,
        ),
        ("diffusion.noise", _noise(theirs), _noise(ours)),
    ]
    if theirs.model.conditions is not None:  # one without may be told some from now on: that begins at zero
        pairs.append(("model.conditions", _conditions(theirs), _conditions(ours)))
    found = [f"its {name} is {seen}, this spec's {wanted}" for name, seen, wanted in pairs if seen != wanted]
    if parent.tokens != VOCABULARY:
        found.append(f"its alphabet has {parent.tokens} tokens, ours {VOCABULARY}")
    if ours.training.init and ours.training.init.optimizer:
        found += _without_moments(parent, ours)
    return found


def _without_moments(parent: Parent, experiment: Experiment) -> list[str]:
    if parent.is_export:
        return ["an export has no optimiser state to take over"]
    theirs, ours = parent.experiment.training, experiment.training
    if theirs.optimizer != ours.optimizer:
        return [f"its training.optimizer is {theirs.optimizer}, this spec's {ours.optimizer}"]
    if theirs.lora or theirs.freeze or theirs.layer_decay != ours.layer_decay:
        return ["its optimiser's state is not of all parameters alike"]
    if experiment.model.conditions is not None and parent.experiment.model.conditions is None:
        return ["its optimiser has no state of the embeddings of model.conditions"]
    return []


_SHAPE = ("hidden", "cond", "blocks", "heads", "token_shift")


def _noise(experiment: Experiment) -> str:
    noise = experiment.diffusion.noise.model_dump()
    return f"{noise.pop('kind')} ({', '.join(f'{name} {value:g}' for name, value in noise.items())})"


def _conditions(experiment: Experiment) -> str:
    """`{family: category of 8 values}`, with every probability that is not the default."""
    conditions = experiment.model.conditions
    if conditions is None:
        return "absent"
    fields = ", ".join(f"{name}: {_label(field)}" for name, field in conditions.fields.items())
    drop_all = ConditionsSpec.model_fields["drop_all"].default
    rest = f" with drop_all {conditions.drop_all:g}" if conditions.drop_all != drop_all else ""
    return f"{{{fields}}}{rest}"


def _label(field: LabelSpec) -> str:
    what = f"category of {counted(field.values, 'value')}" if isinstance(field, CategorySpec) else "number"
    return f"{what}, drop {field.drop:g}" if field.drop else what


FREEZE_HINT = (
    "names begin with embedding., noise_level., blocks.N. (N from 0) or final.; for example training.freeze: "
    "['embedding.*', 'blocks.0.*']"
)
"""What to write where a pattern was not meant so."""


def freezing_problem(experiment: Experiment) -> str | None:
    """Why `training.freeze` cannot be what was meant; None if it can."""
    names = [*parameter_shapes(experiment.model), *adapter_shapes(experiment)]
    for pattern in experiment.training.freeze:
        if not any(fnmatchcase(name, pattern) for name in names):
            meant = did_you_mean(pattern.split(".")[0], {name.split(".")[0] for name in names})
            return f"training.freeze: no parameter's name matches {pattern!r}{f'; {meant}' if meant else ''}"
    trained = trained_shapes(experiment)
    if not trained:
        return "training.freeze leaves nothing to train"
    if experiment.training.optimizer == "muon" and not any(_is_block_matrix(name) for name in trained):
        return "training.freeze leaves no matrix of a block to muon: use optimizer: adamw"
    return None


def is_trained(name: str, training: TrainingSpec) -> bool:
    """Whether a parameter of this name learns."""
    if training.lora and not name.endswith(ADAPTERS) and not name.startswith(CONDITIONS):
        return False
    return not any(fnmatchcase(name, pattern) for pattern in training.freeze)


ADAPTERS = (".lora_a", ".lora_b")
"""How the names of adapters' parameters end."""
CONDITIONS = "conditions."
"""How those of labels' embeddings begin: they learn beside adapters."""


def rate_scale(name: str, experiment: Experiment) -> float:
    """The learning rate of a parameter of this name in units of the uppermost layer's."""
    blocks = experiment.model.blocks
    head, *rest = name.split(".")
    depth = int(rest[0]) if head == "blocks" else blocks if head == "final" else -1
    return experiment.training.layer_decay ** (blocks - depth)


def trained_shapes(experiment: Experiment) -> Shapes:
    """The shapes of the parameters that learn, by name."""
    shapes = {**parameter_shapes(experiment.model), **adapter_shapes(experiment)}
    return {name: shape for name, shape in shapes.items() if is_trained(name, experiment.training)}


def count(shapes: Shapes) -> int:
    """Numbers in tensors of these shapes."""
    return sum(math.prod(shape) for shape in shapes.values())


def parameter_shapes(model: ModelSpec) -> Shapes:
    """The shapes of `Transformer(model)`'s parameters, by name."""
    hidden, cond = model.hidden, model.cond
    layers: list[tuple[str, Sequence[int], bool]] = [
        ("noise_level.enter", (cond, SINUSOIDS), True),
        ("noise_level.leave", (cond, cond), True),
        *(
            (f"blocks.{number}.{name}", shape, bias)
            for number in range(model.blocks)
            for name, shape, bias in _block(model)
        ),
        ("final.norm", (hidden,), True),
        ("final.modulation", (hidden, cond), True),
        ("final.output", (VOCABULARY, hidden), False),
    ]
    found: Shapes = {"embedding.weight": (VOCABULARY, hidden)}
    for name, field in model.conditions.fields.items() if model.conditions else ():
        rows = field.values + 1 if isinstance(field, CategorySpec) else 3 + 2 * WAVES
        found[f"{CONDITIONS}fields.{name}.weight"] = (rows, cond)
    for name, shape, bias in layers:
        found[f"{name}.weight"] = tuple(shape)
        if bias:
            found[f"{name}.bias"] = (shape[0],)
    return found


def adapter_shapes(experiment: Experiment) -> Shapes:
    """The shapes of the adapters' parameters, by name; {} without adapters."""
    model, lora = experiment.model, experiment.training.lora
    found: Shapes = {}
    for number in range(model.blocks) if lora else ():
        for name, shape, _ in _block(model):
            if lora and name in lora.matrices:
                found[f"blocks.{number}.{name}.lora_a"] = (lora.rank, shape[1])
                found[f"blocks.{number}.{name}.lora_b"] = (shape[0], lora.rank)
    return found


def _block(model: ModelSpec) -> Iterable[tuple[str, tuple[int, ...], bool]]:
    hidden, inner = model.hidden, MLP_FACTOR * model.hidden
    return (
        ("norm_1", (hidden,), False),
        ("qkv", (3 * hidden, hidden), False),
        ("out", (hidden, hidden), False),
        ("norm_2", (hidden,), False),
        ("up", (inner, hidden), True),
        ("down", (hidden, inner), True),
        ("modulation", (6 * hidden, model.cond), True),
    )


def _is_block_matrix(name: str) -> bool:
    return name.startswith("blocks.") and name.endswith(
        ("qkv.weight", "out.weight", "up.weight", "down.weight")
    )
