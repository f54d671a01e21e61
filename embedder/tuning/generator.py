"""How does a local language model answer prompts? Any causal model that transformers loads, offline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from embedder.checkpoint import locate, open_checkpoint
from embedder.errors import ModelLoadFailed
from embedder.model import choose_device
from embedder.tuning.batches import derive_seed

Untyped: TypeAlias = Any  # transformers' models and tokenizers


def local_generator(
    model: str,
    *,
    device: str | None = None,
    max_new_tokens: int = 512,
    temperature: float = 1.0,
    top_p: float = 1.0,
    batch: int = 8,
    seed: int = 0,
) -> Callable[[Sequence[str]], list[str]]:
    """A function from prompts to answers, in order; the same prompts get the same answers.

    A model with a chat template is asked as its user, another one continues the prompt.

    Args:
        model: a folder, or a Hugging Face id.
        device: None: the first GPU when there is one.
        max_new_tokens: the longest answer.
        temperature: of the sampling; 0 takes the likeliest token each time.
        top_p: sampling takes the likeliest tokens that make up so much of the probability.
        batch: prompts that run together.
        seed: of the sampling.

    Raises:
        ModelNotFound: there is no such model.
        ModelLoadFailed: it is no causal language model with safetensors weights.
        DeviceUnavailable: no such device.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    checkpoint = open_checkpoint(model, locate(model))
    where = choose_device(device)
    local = {"trust_remote_code": False, "local_files_only": True}
    try:
        tokenizer: Untyped = AutoTokenizer.from_pretrained(checkpoint.folder, padding_side="left", **local)
        dtype = torch.bfloat16 if where.startswith("cuda") else torch.float32
        network: Untyped = AutoModelForCausalLM.from_pretrained(
            checkpoint.folder, dtype=dtype, use_safetensors=True, **local
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelLoadFailed(model, f"it cannot be used as a generator ({str(error).strip()})") from error
    network = network.to(where).eval()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p} if temperature else {"do_sample": False}

    @torch.inference_mode()
    def answer(prompts: Sequence[str]) -> list[str]:
        asked = [_asked(tokenizer, prompt) for prompt in prompts]
        own = not tokenizer.chat_template  # a template brings its special tokens along
        inputs = tokenizer(asked, padding=True, return_tensors="pt", add_special_tokens=own)
        inputs = {name: inputs[name].to(where) for name in ("input_ids", "attention_mask")}
        torch.manual_seed(derive_seed(seed, *prompts))
        output = network.generate(
            **inputs, max_new_tokens=max_new_tokens, pad_token_id=tokenizer.pad_token_id, **sampling
        )
        written: list[str] = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return written

    def generate(prompts: Sequence[str]) -> list[str]:
        devices = [torch.device(where)] if where.startswith("cuda") else []
        with torch.random.fork_rng(devices=devices):
            return [text for i in range(0, len(prompts), batch) for text in answer(prompts[i : i + batch])]

    return generate


def _asked(tokenizer: Untyped, prompt: str) -> str:
    """The prompt in the words of the model's chat template, if it has one."""
    if not tokenizer.chat_template:
        return prompt
    message = [{"role": "user", "content": prompt}]
    text: str = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    return text
