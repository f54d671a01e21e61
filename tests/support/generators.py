"""Generators for tests: a tiny language model that loads, and a fake one that answers by rules, in no time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from embedder.generation.answers import AnswerCache, CachedGenerator
from embedder.generation.prompts import Prompt
from engine.generators import CACHE_FILE, Generators
from tests.support import tiny_models

CHAT = (
    "{% for m in messages %}{{ '<s> ' + m['content'] + ' </s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>' }}{% endif %}"
)


def save_generator(folder: Path, *, chat_template: str | None = None, context: int = 1024, seed: int = 0) -> Path:
    """A Qwen3 language model that answers words of the tiny vocabulary."""
    torch.manual_seed(seed)
    sizes = {**tiny_models._SIZES, "max_position_embeddings": context, "num_key_value_heads": 1, "head_dim": 8}
    config = Qwen3Config(**sizes, initializer_range=0.3, eos_token_id=tiny_models.VOCABULARY["</s>"])
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tiny_models.save_tokenizer(folder)
    if chat_template is not None:
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": chat_template}))
    return folder


class FakeGenerator:
    """Answers by a function of the prompt, and remembers what it was asked."""

    def __init__(self, answer: Callable[[Prompt], str], identity: str = "fake") -> None:
        self.identity = identity
        self.asked: list[Prompt] = []
        self._answer = answer

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> list[str]:
        self.asked.extend(prompts)
        return [self._answer(prompt) for prompt in prompts]


class FakeGenerators(Generators):
    """The generators of an engine, where every name gives a fake one; the cache is the engine's own file."""

    def __init__(self, folder: Path, name: str | None, made: dict[str, FakeGenerator]) -> None:
        super().__init__(folder, name)
        self._made = made

    def _load(self, name: str) -> CachedGenerator:
        if self._cache is None:
            self._cache = AnswerCache(self._folder / CACHE_FILE)
        return CachedGenerator(self._made[name], self._cache)
