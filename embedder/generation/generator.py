"""How does a local language model answer prompts? Any causal model that transformers loads, offline."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
import xxhash

from embedder.checkpoint import locate, open_checkpoint
from embedder.errors import DeviceOutOfMemory, InvalidInput, ModelLoadFailed
from embedder.fingerprint import hash_files
from embedder.generation.prompts import Prompt
from embedder.model import choose_device

Untyped: TypeAlias = Any  # transformers' models and tokenizers

_LOCAL = {"trust_remote_code": False, "local_files_only": True}
_DESCRIBING = ("config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "chat_template.jinja")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is chosen.

    Attributes:
        temperature: 0 takes the likeliest token each time.
        top_p: sampling takes the likeliest tokens that make up so much of the probability.
        seed: another seed gives other answers.
    """

    temperature: float = 0.7
    top_p: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InvalidInput("temperature", self.temperature, "it must be at least 0")
        if not 0 < self.top_p <= 1:
            raise InvalidInput("top_p", self.top_p, "it must be in (0, 1]")


class Generator(Protocol):
    """What answers prompts. An answer depends on its prompt, on the longest answer, and on what ``identity`` tells."""

    @property
    def identity(self) -> str:
        """32 hexadecimal digits: the model and its sampling."""
        ...

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> list[str]:
        """One answer a prompt, in order."""
        ...


class LocalGenerator:
    """A causal language model on this machine. Thread-safe: one batch runs at a time.

    A model with a chat template is asked as its user, another one continues the text. An answer does not depend on which
    prompts run with it (up to rounding): each is sampled with random numbers of its own.

    Args:
        model: a folder, or a Hugging Face id.
        device: None: the first GPU when there is one.
        sampling: how answers are chosen.
        batch: prompts that run together; None: 8 on a CPU, 64 on a GPU.

    Raises:
        ModelNotFound: there is no such model.
        ModelLoadFailed: it is no causal language model with safetensors weights.
        DeviceUnavailable: no such device.
    """

    def __init__(
        self, model: str, *, device: str | None = None, sampling: Sampling | None = None, batch: int | None = None
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # a bar a model on stderr, even for a query
        checkpoint = open_checkpoint(model, locate(model))
        self.name = model
        self._device = choose_device(device)
        self._sampling = sampling or Sampling()
        self._batch = batch or (64 if self._device.startswith("cuda") else 8)
        self._lock = threading.Lock()
        self.identity = _identity(checkpoint.folder, self._sampling)
        dtype = torch.bfloat16 if self._device.startswith("cuda") else torch.float32
        try:
            self._tokenizer: Untyped = AutoTokenizer.from_pretrained(checkpoint.folder, padding_side="left", **_LOCAL)
            network: Untyped = AutoModelForCausalLM.from_pretrained(
                checkpoint.folder, dtype=dtype, use_safetensors=True, **_LOCAL
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelLoadFailed(model, f"it cannot be used as a generator ({str(error).strip()})") from error
        self._network: Untyped = network.to(self._device).eval()
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        if self._tokenizer.pad_token is None:
            raise ModelLoadFailed(model, "its tokenizer has neither a padding nor an end token")
        added = self._tokenizer.added_tokens_decoder.values()
        self._special = [token.content for token in added if token.special]
        self._context = getattr(network.config.get_text_config(), "max_position_embeddings", None)

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> list[str]:
        """One answer a prompt, in order; prompts of like length run together.

        Args:
            prompts: what is asked.
            max_new_tokens: the longest answer.

        Raises:
            InvalidInput: a prompt and its longest answer do not fit into the model's context.
            DeviceOutOfMemory: a batch did not fit.
        """
        texts = [self._asked(prompt) for prompt in prompts]
        answers = [""] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda i: -len(texts[i]))  # what takes most memory fails first
        for start in range(0, len(order), self._batch):
            chosen = order[start : start + self._batch]
            seeds = [self._seed(prompts[i]) for i in chosen]
            with self._lock:
                written = self._answer([texts[i] for i in chosen], seeds, max_new_tokens)
            for i, answer in zip(chosen, written, strict=True):
                answers[i] = answer
        return answers

    @torch.inference_mode()
    def _answer(self, texts: list[str], seeds: list[int], max_new_tokens: int) -> list[str]:
        from transformers import GenerationConfig

        own = not self._tokenizer.chat_template  # a template brings its special tokens along
        inputs = self._tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=own)
        width = inputs["input_ids"].shape[1]
        if self._context is not None and width + max_new_tokens > self._context:
            raise InvalidInput(
                "prompt",
                f"{width} tokens",
                f"with an answer of {max_new_tokens} it does not fit into the {self._context} tokens of {self.name!r}; "
                "choose a generator with a longer context",
            )
        end = self._network.generation_config.eos_token_id
        config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers' own
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=self._tokenizer.eos_token_id if end is None else end,
            pad_token_id=self._tokenizer.pad_token_id,
        )
        try:
            output = self._network.generate(
                **{name: inputs[name].to(self._device) for name in ("input_ids", "attention_mask")},
                generation_config=config,
                logits_processor=self._chooser(seeds),
            )
        except torch.OutOfMemoryError as error:
            raise DeviceOutOfMemory(self._device, len(texts) * (width + max_new_tokens)) from error
        written: list[str] = self._tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)
        return written

    def _chooser(self, seeds: list[int]) -> Untyped:
        """What turns the likeliest token of each row into a sampled one; nothing at temperature 0."""
        from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

        if not self._sampling.temperature:
            return LogitsProcessorList()
        return LogitsProcessorList(
            [
                TemperatureLogitsWarper(float(self._sampling.temperature)),
                TopPLogitsWarper(self._sampling.top_p),
                _GumbelNoise(seeds, self._device),
            ]
        )

    def _seed(self, prompt: Prompt) -> int:
        parts = json.dumps([self._sampling.seed, asdict(prompt)])
        return int(xxhash.xxh3_64_intdigest(parts.encode("utf-8", "surrogatepass")) >> 1)

    def _asked(self, prompt: Prompt) -> str:
        """The prompt in the words of the model's chat template, if it has one.

        Special tokens in it are left out: a document must not end the user's turn and give orders of its own.
        """
        *turns, last = (self._plain(turn) for pair in (*prompt.turns, (prompt.text,)) for turn in pair)
        if not self._tokenizer.chat_template:
            return "\n\n".join([*turns, last])
        roles = ["user", "assistant"] * len(prompt.turns) + ["user"]
        messages = [{"role": role, "content": said} for role, said in zip(roles, [*turns, last], strict=True)]
        text: str = self._tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,  # templates that do not know it ignore it
        )
        return text

    def _plain(self, text: str) -> str:
        for token in self._special:
            text = text.replace(token, " ")
        return text


class _GumbelNoise:
    """Adds to each row Gumbel noise of its own: the greatest sum is a sample of the row's distribution.

    So a row's sample does not depend on the rows beside it, as it would with one random generator for all.
    """

    def __init__(self, seeds: list[int], device: str) -> None:
        self._random = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores float[rows, vocabulary] with noise."""
        row = torch.empty(scores.shape[1], dtype=torch.float32, device=scores.device)
        noise = [row.exponential_(generator=random).log().neg() for random in self._random]
        return scores.float() + torch.stack(noise)


def _identity(folder: Path, sampling: Sampling) -> str:
    """A digest of weights, tokenizer, configuration and sampling; reads every weight file once."""
    files = hash_files([*sorted(folder.glob("*.safetensors")), *(folder / name for name in _DESCRIBING)])
    return hashlib.blake2b(json.dumps([files, asdict(sampling)]).encode(), digest_size=16).hexdigest()
