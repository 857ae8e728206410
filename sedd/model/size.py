"""The number of parameters in closed form, without torch."""

from sedd.spec.conditions import CategorySpec
from sedd.spec.model import ModelSpec

VOCABULARY = 33
"""Tokens of the alphabet: width of the embedding and of the output."""
SINUSOIDS = 256
"""Sines and cosines that describe the noise level."""
MLP_FACTOR = 4
"""Inner width of a block's MLP in units of its hidden width."""

WAVES = 5
"""Sines, and as many cosines, that describe a number of a label."""


def parameter_count(spec: ModelSpec) -> int:
    """Parameters of `Transformer(spec)`."""
    hidden, cond = spec.hidden, spec.cond
    noise_level = SINUSOIDS * cond + cond + cond * cond + cond
    final = 2 * hidden + cond * hidden + hidden + hidden * VOCABULARY
    labels = sum(
        (field.values + 1 if isinstance(field, CategorySpec) else 3 + 2 * WAVES) * cond
        for field in (spec.conditions.fields.values() if spec.conditions else ())
    )
    return VOCABULARY * hidden + noise_level + labels + spec.blocks * block_parameter_count(spec) + final


def block_parameter_count(spec: ModelSpec) -> int:
    """Of these the ones of one block."""
    hidden, inner = spec.hidden, MLP_FACTOR * spec.hidden
    attention = 4 * hidden * hidden
    mlp = hidden * inner + inner + inner * hidden + hidden
    modulation = spec.cond * 6 * hidden + 6 * hidden
    return 2 * hidden + attention + mlp + modulation


def matrix_parameter_count(spec: ModelSpec) -> int:
    """Of these the ones in the matrices of the blocks: attention's four and the MLP's two."""
    return spec.blocks * (4 + 2 * MLP_FACTOR) * spec.hidden**2
