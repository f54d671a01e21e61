"""What does a training run do? Every choice of it, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from embedder.errors import InvalidInput
from embedder.tuning.examples import Example

Precision = Literal["float32", "bfloat16"]
Layout = Literal["passages", "landmarks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Low-rank adapters in every linear layer of the blocks (Hu et al. 2021; the sizes of LLM2Vec and E5-mistral).

    Attributes:
        rank: of the two factors.
        alpha: their product is scaled by alpha / rank.
        dropout: of an adapter's input.
        targets: last parts of the linear layers' names ("q_proj"); empty: all of them.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _at_least("lora.rank", self.rank, 1)
        _at_least("lora.alpha", self.alpha, 1)
        _within("lora.dropout", self.dropout, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How much each loss counts; a term of weight 0 is not computed. The formulas are in ``objectives``.

    Attributes:
        dense, sparse: the two legs.
        contrastive: InfoNCE over in-batch and hard negatives.
        self_distillation: BGE-M3's joint loss of both legs, instead of the contrastive one where there are both.
        distil_kl: the teacher's distribution over each example's own candidates; needs teacher scores.
        margin_mse: the teacher's margins between positive and negatives; needs teacher scores.
        cosent: the order of graded pairs.
        flops_query, flops_passage: FLOPS regularisation of the sparse vectors, at the end of its ramp.
        anti_zero: keeps sparse vectors from becoming empty.
    """

    dense: float = 1.0
    sparse: float = 1.0
    contrastive: float = 1.0
    self_distillation: float = 0.0
    distil_kl: float = 0.0
    margin_mse: float = 0.0
    cosent: float = 1.0
    flops_query: float = 3e-4
    flops_passage: float = 1e-4
    anti_zero: float = 5e-3

    def __post_init__(self) -> None:
        for name in self.__slots__:
            _at_least(f"weights.{name}", getattr(self, name), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningConfig:
    """Everything that decides what a training run makes of a base model and its examples.

    Attributes:
        recipe: fields of the base's recipe to replace ("attention": "bidirectional" makes a decoder look both ways).
        lora: adapters in the backbone; None: none.
        train_layers: the last so many blocks of the backbone are trained whole (with the norm after them).
        dense_dim: width of a trained projection after the pooling, which begins as the identity; None: the one that the
            base model has, if any.
        sparse_head: sizes of a new sparse head (``kind``, ``units``, ...); None: the one that the base model has.
        weights: of the losses.
        temperature: of dense scores (cosines).
        sparse_temperature: of sparse scores (dot products).
        teacher_temperature: of a teacher's scores: 1 for a cross-encoder's logits, as ``temperature`` for cosines.
        matryoshka_dims: prefixes of the dense vector that are trained too; empty: the whole vector only.
        false_negative_margin: an in-batch passage that scores above the positive by more than this is no negative
            (Qwen3-Embedding: 0.1); None: every passage is.
        negatives: hard negatives of an example in a step; those with fewer repeat theirs.
        flops_ramp: the part of a stage over which FLOPS grows, quadratically, to its weight.
        flops_min_terms: vectors of at most so many terms are not regularised; None: all are (OpenSearch: 150).
        steps: of a stage that names no number of its own; None: ``epochs``.
        epochs: passes over a stage's examples.
        batch: examples of a step.
        lr: peak learning rate of the backbone and its adapters.
        head_lr: peak learning rate of the heads.
        warmup: the part of a stage over which the rate grows; then it falls linearly to zero.
        weight_decay: of matrices; biases, norms and the heads' terms have none.
        max_gradient: norm to which the gradient is cut.
        passage_tokens: the most tokens of a training passage, the rest is dropped and counted; None: the recipe's.
        query_tokens: the same for queries.
        batch_tokens: tokens of one padded forward pass; a step makes as many passes as it needs.
        gradient_cache: back-propagate pass by pass (Gao et al. 2021): memory for one pass, the same gradient, a second
            forward.
        gradient_checkpointing: keep no activations inside blocks, compute them again: less memory, a third slower.
        precision: "bfloat16" computes passes in bfloat16; weights stay as they were loaded.
        seed: of everything random.
        checkpoint_every: steps between checkpoints.
    """

    recipe: Mapping[str, object] = field(default_factory=dict)
    lora: Lora | None = None
    train_layers: int = 0
    dense_dim: int | None = None
    sparse_head: Mapping[str, object] | None = None
    weights: Weights = field(default_factory=Weights)
    temperature: float = 0.02
    sparse_temperature: float = 1.0
    teacher_temperature: float = 1.0
    matryoshka_dims: tuple[int, ...] = ()
    false_negative_margin: float | None = None
    negatives: int = 7
    flops_ramp: float = 1 / 3
    flops_min_terms: int | None = None
    steps: int | None = None
    epochs: int = 1
    batch: int = 64
    lr: float = 1e-4
    head_lr: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_gradient: float = 1.0
    passage_tokens: int | None = None
    query_tokens: int | None = None
    batch_tokens: int = 8192
    gradient_cache: bool = False
    gradient_checkpointing: bool = False
    precision: Precision = "float32"
    seed: int = 0
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InvalidInput: one has a value that cannot be used.
        """
        for name in ("epochs", "batch", "batch_tokens", "checkpoint_every"):
            _at_least(name, getattr(self, name), 1)
        for name in ("steps", "dense_dim", "passage_tokens", "query_tokens"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 1)
        for name in ("train_layers", "negatives", "weight_decay", "seed"):
            _at_least(name, getattr(self, name), 0)
        for name in ("temperature", "sparse_temperature", "teacher_temperature", "lr", "head_lr", "max_gradient"):
            if not getattr(self, name) > 0:
                raise InvalidInput(name, getattr(self, name), "it must be greater than 0")
        _within("warmup", self.warmup, 0.0, 1.0)
        _within("flops_ramp", self.flops_ramp, 0.0, 1.0)
        for dim in self.matryoshka_dims:
            _at_least("matryoshka_dims", dim, 1)
        if self.lora is not None and self.train_layers:
            raise InvalidInput("train_layers", self.train_layers, "train whole layers or adapters, not both")
        if self.precision not in ("float32", "bfloat16"):
            raise InvalidInput("precision", self.precision, "it must be float32 or bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Examples to learn from, one stage after another: weak pairs first, then supervised ones.

    Attributes:
        name: for people.
        examples: what to learn; a batch holds examples of one ``source``.
        layout: "landmarks" learns passages in shared windows: the positives of a batch, shuffled, become one document.
        in_batch_negatives: whether the other examples' passages are negatives; not so for classes and graded pairs.
        steps: replaces the configuration's.
        lr_scale: multiplies the learning rates.
    """

    name: str
    examples: Sequence[Example]
    layout: Layout = "passages"
    in_batch_negatives: bool = True
    steps: int | None = None
    lr_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.examples:
            raise InvalidInput("examples", 0, f"stage {self.name!r} has none")
        if self.steps is not None:
            _at_least("steps", self.steps, 1)

    def sample(self) -> list[str]:
        """Its passages: what a new sparse head begins with."""
        return [example.positive for example in self.examples]

    def texts(self) -> Iterator[str]:
        """Everything that is learned from, as text, for a digest of the data."""
        yield from (self.name, self.layout, repr(self.in_batch_negatives))
        for example in self.examples:
            yield from (example.query, example.positive, *example.negatives, repr(example.scores), example.source)


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise InvalidInput(name, value, f"it must be at least {least:g}")


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise InvalidInput(name, value, f"it must be {least:g} to {most:g}")
