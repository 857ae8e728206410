"""An estimate of a training step on a V100: FLOPs and bytes of each kind of kernel, by shares measured on an H200."""

from dataclasses import dataclass

from sedd.model.size import VOCABULARY, matrix_parameter_count, parameter_count
from sedd.spec.model import ModelSpec

MATMUL, BANDWIDTH, FLOAT32 = 112e12, 800e9, 14e12
"""What a V100 achieves: FLOP/s of large fp16 products, bytes/s of device memory, FLOP/s in fp32."""
TOKENS_A_PAIR = {512: 410, 1024: 591}
"""Crop -> tokens of a residue's own sequence, on average over residues of 20,000 proteins of UniProt."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of kernel: its work in a step, and the share of the card's rate that it reaches."""

    name: str
    work: float
    rate: float
    share: tuple[float, float]
    """Slowest and fastest; one number twice where the H200 measured it."""

    def seconds(self, which: int) -> float:
        return self.work / (self.rate * self.share[which])


def kinds(model: ModelSpec, residues: int, pair: float) -> list[Kind]:
    """The kernels of a step of fused kernels, `tiled` attention and AdamW, fp16, by kind.

    Shares: one H200 (matmul rate 645 TFLOP/s, copies at 4.3 TB/s), 92 M parameters, 32,768 residues cut at 512. Those
    of attention are a range, since shared memory sets its pace there (ncu: 47 million accesses of 128 bytes forward,
    136 backward) and matrix units would on a V100. Fastest: an access a cycle of 80 multiprocessors at 1.45 GHz, and
    then the products, 7/5 of the gradient's FLOPs, at the rate above. Slowest: twice the accesses for matrices, as a
    V100's lanes hold each entry twice, and 0.8 of those rates.

    That was for heads of 64. For those of 128 accesses are counted in the sources: 278 and 736 for 1,024 pairs of
    tokens, 224 and 544 of them for matrices; ncu saw 1.56 and 1.40 times what the same count gives for heads of 64, 192
    and 616. The gradient takes five products, not seven, and gradients of the scores are written and read in half
    precision.
    """
    h, layers = model.hidden, model.blocks
    streams = residues * h * layers
    passes = (
        ("norm, gate and dropout", 2 * 12, 0.84),
        ("their gradients", 2 * 18, 0.82),
        ("rotation", 8, 0.88),
        ("GELU", 16, 0.96),
        ("its gradient", 24 + 2, 0.93),
    )
    products = 6 * matrix_parameter_count(model) * residues
    attention = 4 * streams * pair
    is_wide = h // model.heads == 128
    forward, backward = ((0.33, 0.56), (0.34, 0.57)) if is_wide else ((0.28, 0.48), (0.22, 0.37))
    scores = residues * pair * model.heads * layers
    kept = [Kind("gradients of the scores, kept", 2 * 2 * scores, BANDWIDTH, (0.8, 1.0))] if is_wide else []
    return [
        Kind("matrix products", products, MATMUL, (0.9, 1.0)),
        Kind("attention", attention, MATMUL, forward),
        Kind("attention's gradient", 2.5 * attention, MATMUL, backward),
        *kept,
        *(Kind(name, width * streams, BANDWIDTH, (share, share)) for name, width, share in passes),
        Kind("logits, in fp32", 6 * VOCABULARY * h * residues, FLOAT32, (0.5, 0.5)),
        Kind("loss, in fp64", 40 * 16 * VOCABULARY * residues, BANDWIDTH, (0.5, 0.7)),
        Kind("casts, clipping, AdamW, EMA", 52 * parameter_count(model), BANDWIDTH, (0.66, 0.66)),
    ]


def estimated_rates(model: ModelSpec, residues: int, pair: float) -> tuple[float, float]:
    """Residues a second of a V100, by the slowest and by the fastest shares."""
    slow, fast = (sum(kind.seconds(which) for kind in kinds(model, residues, pair)) for which in (0, 1))
    return residues / slow, residues / fast


def estimated_residue_s(model: ModelSpec, max_length: int, residues: int = 32_768) -> float:
    """Seconds of a residue in training on one V100: between the slowest and the fastest estimate."""
    crop = min(TOKENS_A_PAIR, key=lambda each: abs(each - max_length))
    slow, fast = estimated_rates(model, residues, TOKENS_A_PAIR[crop])
    return 2 / (slow + fast)
