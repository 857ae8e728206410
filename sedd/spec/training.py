"""Spec of how the network is optimised, validated and saved."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from sedd.errors import SpecError
from sedd.spec.finetune import Init, LoraSpec
from sedd.yaml import Duration, StrictModel


class CheckpointSpec(StrictModel):
    """When periodic checkpoints are written (the end and every requeue always write one)."""

    every_steps: int | None = Field(default=None, ge=1)
    """Steps between periodic checkpoints: what a SIGKILL can cost at most. Absent: as often as `overhead` allows."""
    overhead: float = Field(default=0.01, gt=0, le=0.5)
    """Share of the time that may go into periodic saving, measured during the run: a save of 2 s every 200 s.
    Never more often than every minute, nor more seldom than every hour. `every_steps`, where given, decides alone."""
    keep: int = Field(default=3, ge=1)
    """Newest checkpoints kept."""
    local_every: Annotated[Duration, Field(ge=1)] | None = 5
    """Seconds between copies of the state on the node itself, from which a restart in the same job continues: what a
    killed process costs. Less often where they would take more than 1 % of the time. null: none."""
    keep_every_steps: int | None = Field(default=None, ge=1)
    """At multiples of this step a checkpoint is saved and kept for ever; none when absent."""


class ValidationSpec(StrictModel):
    """The true likelihood bound on a fixed set, with EMA weights."""

    every_steps: int = Field(default=1000, ge=1)
    """Steps between validations; the last step always validates."""
    residues: int = Field(default=262_144, ge=1)
    """Residues of the fixed validation set, at most."""


class RewarmSpec(StrictModel):
    """A new rise of a cosine schedule's learning rate, where more steps were asked for later (`sedd extend`)."""

    from_step: int = Field(ge=1)
    """The step at which the cosine before it ends, at a tenth of the peak."""
    steps: int = Field(ge=1)
    """Steps in which the learning rate rises to its peak again."""


class TrainingSpec(StrictModel):
    """Optimiser, batch, schedule, precision."""

    steps: int = Field(ge=1)
    """Optimiser steps of the whole run."""
    residues_per_step: int = Field(default=131_072, ge=1)
    """Residues of a global batch, whatever the number of GPUs."""
    residues_per_gpu: Annotated[int, Field(ge=1)] | Literal["auto"] = 32_768
    """Residues of one forward pass on one GPU; the rest is accumulated. auto: the most that a card holds."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: the matrices of the blocks move along their orthogonalised momentum, the rest by AdamW."""
    learning_rate: float = Field(default=3e-4, gt=0)
    """Peak learning rate, of either optimiser."""
    warmup_steps: int = Field(default=1000, ge=0)
    """Steps of linear warm-up from 0."""
    schedule: Literal["constant", "cosine", "inverse_sqrt"] = "cosine"
    """Learning rate after the warm-up; cosine falls to a tenth of the peak at the last step."""
    rewarm: tuple[RewarmSpec, ...] = ()
    """Of a cosine schedule: from where on it rises and falls once more. `sedd extend --rewarm` writes it."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decoupled weight decay; biases and norms are exempt."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's decay of the gradient's first moment."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """AdamW's decay of the gradient's second moment."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient; longer ones are scaled down to it."""
    ema_decay: float = Field(default=0.9999, ge=0, lt=1)
    """Decay of the weights' exponential moving average, warmed up as (1 + step) / (10 + step)."""
    init: Init | None = None
    """A trained network to start from: a run, a sweep's best, a checkpoint or an export; absent: weights by chance."""
    freeze: tuple[str, ...] = ()
    """Patterns of parameters that keep the parent's values: ["embedding.*", "blocks.[0-3].*"]."""
    lora: LoraSpec | None = None
    """Train low-rank adapters instead of the parent's own weights."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Learning rate of each block in units of the one above it; embedding and noise level are below the first."""
    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """auto: bf16 from compute capability 8.0 on, fp16 with loss scaling below (V100), fp32 on a CPU."""
    attention: Literal["auto", "efficient", "tiled", "flash", "padded", "explicit"] = "auto"
    """Attention kernel; auto: flash in half precision from capability 8.0 on, below tiled in fp16 and efficient in fp32
    (or where tiled cannot be compiled), padded on a CPU. tiled is written for heads (hidden / heads) of 32, 64 and 128,
    of the last not on Turing, and takes efficient for others."""
    kernels: Literal["auto", "fused", "torch"] = "auto"
    """What lies between matrix products: fused reads and writes each tensor once, on GPUs, compiled at the start; torch
    takes an operator after the other. auto: fused on a GPU, unless the network is compiled."""
    compile: bool | Literal["auto"] = False
    """Run the network through torch.compile, with torch's kernels. auto: where Triton supports the card, from compute
    capability 8.0 on, and no fused kernels, which are faster, can be had."""
    cuda_graphs: bool | Literal["auto"] = "auto"
    """Record a micro-batch's thousand kernel launches once and replay them as one, with the same bits: for cards that
    wait for their host. auto: from compute capability 8.0 on, with fused kernels, without a curriculum and
    activation_checkpointing. Several ranks then sum gradients after the backward pass and not during it."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    shard: Literal["none", "optimizer", "full"] = "none"
    """What each of n GPUs holds an n-th of. optimizer: moments and averages (ZeRO stage 1), of 12 bytes a parameter
    12/n. full: weights and gradients, too (FSDP2), 20/n bytes; weights travel in each pass. Checkpoints are then
    written by all ranks at once."""
    reduction: Literal["all_reduce", "ordered"] = "all_reduce"
    """How gradients are summed over micro-batches and ranks. ordered: along one fixed tree of micro-batches, so that
    1, 2, 4, 8, … ranks train to the same bits; exchanged after the backward pass, not during it; takes more memory."""
    max_bad_steps: int = Field(default=50, ge=0)
    """Consecutive steps with a loss or gradient that is not finite before the attempt counts as crashed."""
    log_every_steps: int = Field(default=50, ge=1)
    """Steps between rows of metrics.jsonl."""
    validation: ValidationSpec = ValidationSpec()
    """The fixed validation set."""
    checkpoint: CheckpointSpec = CheckpointSpec()
    """Saving."""

    @model_validator(mode="before")
    @classmethod
    def _says_shard(cls, fields: Any) -> Any:
        """Read `shard_optimizer` of runs before there was `shard`."""
        if not isinstance(fields, dict) or "shard_optimizer" not in fields:
            return fields
        spread = fields["shard_optimizer"]
        rest = {name: value for name, value in fields.items() if name != "shard_optimizer"}
        return {"shard": "optimizer" if spread else "none"} | rest

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.shard == "full" and self.reduction == "ordered":
            raise ValueError("shard: full adds gradients up as it computes them: not with reduction: ordered")
        if self.shard == "full" and self.compile is True:
            raise ValueError("shard: full gathers weights block by block: not with compile: true")
        if self.shard == "full" and self.lora is not None:
            raise ValueError("lora adds to weights that shard: full has cut: use shard: optimizer with it")
        if self.shard == "full" and self.cuda_graphs is True:
            raise ValueError("shard: full gathers weights block by block: not with cuda_graphs: true")
        if self.kernels == "fused" and self.compile is True:
            raise ValueError("compile sees torch's operators alone: with it, kernels cannot be 'fused'")
        return self

    @model_validator(mode="after")
    def _rewarms_in_order(self) -> Self:
        if not self.rewarm:
            return self
        if self.schedule != "cosine":
            raise ValueError(f"rewarm belongs to the schedule cosine; {self.schedule} needs none")
        begins = [each.from_step for each in self.rewarm]
        for each, end in zip(self.rewarm, [*begins[1:], self.steps], strict=True):
            if each.from_step < self.warmup_steps or each.from_step + each.steps > end:
                raise ValueError(
                    f"rewarm from step {each.from_step} on takes {each.steps} steps, which do not lie between "
                    f"the warm-up and step {end}"
                )
        return self

    @model_validator(mode="after")
    def _fine_tunes_something(self) -> Self:
        partly = [name for name, given in (("freeze", self.freeze), ("lora", self.lora)) if given]
        if partly and self.init is None:
            raise ValueError(f"{partly[0]} keeps a trained network's weights: name it, init: RUN")
        if self.lora and self.optimizer != "adamw":
            raise ValueError("lora leaves no matrix of a block to muon: use optimizer: adamw")
        if partly and self.init is not None and self.init.optimizer:
            raise ValueError(
                f"init.optimizer takes over moments of all parameters: not together with {partly[0]}"
            )
        return self

    @property
    def micro_batch_residues(self) -> int:
        """`residues_per_gpu` as a number. Raises: SpecError while it is `auto`, see preflight/resolve_auto.py."""
        if self.residues_per_gpu == "auto":
            raise SpecError(
                "training.residues_per_gpu is auto: it must be resolved to a number before the run starts"
            )
        return self.residues_per_gpu

    @property
    def micro_batches_per_step(self) -> int:
        """Forward passes that make one global batch, over all ranks."""
        return self.residues_per_step // self.micro_batch_residues

    @model_validator(mode="after")
    def _whole_micro_batches(self) -> Self:
        if self.residues_per_gpu != "auto" and self.residues_per_step % self.residues_per_gpu:
            raise ValueError(
                f"residues_per_step {self.residues_per_step} is not a multiple "
                f"of residues_per_gpu {self.residues_per_gpu}"
            )
        return self
