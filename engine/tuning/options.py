"""What may be chosen about a tuning run?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from engine.errors import InvalidArgument

if TYPE_CHECKING:
    from embedder.tuning.config import TuningConfig

Trained = Literal["heads", "layers", "lora"]
Objective = Literal["contrastive", "joint", "distillation"]

TRAINED_LAYERS = 2
LEARNING_RATES: dict[Trained, float] = {"heads": 1e-4, "layers": 5e-5, "lora": 3e-4}
MINUTES = 20.0
BATCH_TOKENS_CPU, BATCH_TOKENS_GPU = 8_192, 65_536
CACHED_BATCH = 128  # larger batches are back-propagated pass by pass, which needs the memory of one pass
CHECKPOINTS, CHECKPOINT_STEPS = 10, 100  # at least so many in a run, and at most so many steps apart


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOptions:
    """The choices of ``engine tune``.

    Attributes:
        pairs: a file of examples (`embedder.tuning.examples`); None: they are made from the documents.
        trained: the heads after a frozen backbone, its last two layers as well, or LoRA adapters in all of them; None:
            adapters on a GPU and for a decoder that must learn to look both ways, heads elsewhere, which learn more in the
            minutes that a processor has.
        objective: contrastive; joint (both legs teach each other, as in BGE-M3); or distillation from the scores of
            ``pairs``.
        sparse_head: kind of a new learned sparse head; None: the one that the model has, if any.
        matryoshka: prefixes of the dense vector that shall be good too.
        bidirectional: let a decoder look both ways.
        mntp_steps: steps of masked next token prediction first, for such a decoder (LLM2Vec).
        generator: folder or hub id of a causal language model that writes queries for passages; None: none.
        negatives: hard negatives an example, found with the collection's own index.
        minutes: for the training itself; decides the number of steps.
        steps: instead of ``minutes``.
        lr: peak learning rate; None: LEARNING_RATES, by what is trained.
        batch: examples a step, which are each other's negatives: the more, the better, and the more memory.
        passage_tokens: the most tokens of a training passage; longer ones are cut, which costs little and saves much time.
        held_out: part of the examples that judges and is not learned.
        max_examples: that are made from the documents.
        seed: of everything random.
        force: migrate even when the result is not surely better.
    """

    pairs: Path | None = None
    trained: Trained | None = None
    objective: Objective = "contrastive"
    sparse_head: str | None = None
    matryoshka: tuple[int, ...] = ()
    bidirectional: bool = False
    mntp_steps: int = 0
    generator: str | None = None
    negatives: int = 1
    minutes: float = MINUTES
    steps: int | None = None
    lr: float | None = None
    batch: int = 32
    passage_tokens: int = 128
    held_out: float = 0.1
    max_examples: int = 20_000
    seed: int = 0
    force: bool = False

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InvalidArgument: one has a value that cannot be used.
        """
        for name, value, known in (
            ("trained", self.trained or "heads", get_args(Trained)),
            ("objective", self.objective, get_args(Objective)),
        ):
            if value not in known:
                raise InvalidArgument(name, f"{value!r} is none of {', '.join(known)}")
        for name in ("minutes", "steps", "lr", "batch", "passage_tokens", "max_examples"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise InvalidArgument(name, f"must be greater than 0, got {getattr(self, name)!r}")
        if not 0 < self.held_out < 1:
            raise InvalidArgument("held_out", f"must be between 0 and 1, got {self.held_out!r}")
        if self.objective == "distillation" and self.pairs is None:
            raise InvalidArgument("objective", "distillation needs pairs with a teacher's scores; name their file")

    def described(self) -> dict[str, object]:
        """What decides the trained model, as JSON holds it."""
        fields = asdict(self)
        del fields["force"]
        return {name: str(value) if isinstance(value, Path) else value for name, value in fields.items()}

    def config(self, *, dim: int, steps: int, device: str = "cpu") -> TuningConfig:
        """The configuration of the training.

        Args:
            dim: width of the model's dense vectors, 0 without them.
            steps: of a stage that names no number of its own.
            device: a GPU computes in bfloat16, in larger passes.
        """
        from embedder.tuning.config import Lora, TuningConfig, Weights

        on_gpu = not device.startswith("cpu")
        trained = self.trained or ("lora" if on_gpu or self.bidirectional or self.mntp_steps else "heads")
        weights = {
            "contrastive": Weights(),
            "joint": Weights(self_distillation=1.0),
            "distillation": Weights(distil_kl=1.0, contrastive=0.2),
        }
        return TuningConfig(
            recipe={"attention": "bidirectional"} if self.bidirectional else {},
            lora=Lora() if trained == "lora" else None,
            train_layers=TRAINED_LAYERS if trained == "layers" else 0,
            dense_dim=dim if trained == "heads" and dim else None,
            sparse_head=None if self.sparse_head is None else {"kind": self.sparse_head},
            weights=weights[self.objective],
            matryoshka_dims=self.matryoshka,
            negatives=self.negatives,
            steps=steps,
            batch=self.batch,
            passage_tokens=self.passage_tokens,
            lr=self.lr or LEARNING_RATES[trained],
            head_lr=self.lr or LEARNING_RATES[trained],
            seed=self.seed,
            precision="bfloat16" if on_gpu else "float32",
            batch_tokens=BATCH_TOKENS_GPU if on_gpu else BATCH_TOKENS_CPU,
            gradient_cache=self.batch > CACHED_BATCH,
            checkpoint_every=max(1, min(CHECKPOINT_STEPS, steps // CHECKPOINTS)),
        )
