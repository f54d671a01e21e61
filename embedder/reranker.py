"""How well does a passage answer a query, judged by a model that reads both together?

cross-encoder   a checkpoint with one classification logit (…ForSequenceClassification): the sigmoid of its logit for the
                pair, tokenised as its tokenizer joins pairs (Nogueira, Cho, 2019; bge-reranker, MiniLM on MS MARCO)
LLM             a causal language model in the form of Qwen3-Reranker: its probability of "yes", of "yes" and "no", after
                a prompt that asks for that (Zhang et al., 2025, and the model card's code)

Nothing is cut silently: a passage that is too long for the model loses its end, and the answer says how many did.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedder.batching import plan_batches
from embedder.checkpoint import Checkpoint, is_decoder, locate, open_checkpoint
from embedder.dtypes import check_dtype, is_quantised
from embedder.errors import DeviceOutOfMemory, InvalidInput, ModelLoadFailed
from embedder.model import choose_device
from embedder.quantisation import computing_dtype, quantise

Untyped: TypeAlias = Any  # transformers' models and tokenizers: their types do not survive the Auto classes

DEFAULT_TASK = "Given a web search query, retrieve relevant passages that answer the query"
SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
PREFIX = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
MAX_TOKENS = 8192  # a cap on what config.json promises, as the model card of Qwen3-Reranker sets it
MIN_PASSAGE_TOKENS = 8  # a query that leaves less room than this for the passage is refused
BATCH_TOKENS_CPU = 2048
BATCH_TOKENS_GPU = 32768


@dataclass(frozen=True, slots=True, eq=False)
class Reranked:
    """``scores`` float64[n] in 0..1, greater is better; ``truncated`` passages lost their end."""

    scores: NDArray[np.float64]
    truncated: int


class Reranker:
    """A loaded reranker. Thread-safe: calls take turns.

    Attributes:
        name: the model's name.
        device: "cpu" or "cuda:0".
        max_tokens: the longest input, of query, passage and prompt together.
    """

    def __init__(self, name: str, network: Untyped, form: _CrossEncoder | _YesNo, device: str, max_tokens: int) -> None:
        self.name = name
        self.device = device
        self.max_tokens = max_tokens
        self._network = network
        self._form = form
        self._batch_tokens = BATCH_TOKENS_CPU if device == "cpu" else BATCH_TOKENS_GPU
        self._turn = threading.Lock()

    @classmethod
    def load(cls, model: str, *, device: str | None = None, dtype: str | None = None) -> Reranker:
        """Load a reranker from a folder or the hub; native classes and safetensors only.

        Args:
            model: a folder or a Hugging Face id.
            device: "cpu", "cuda", "cuda:1"; None: the first GPU when there is one.
            dtype: as for `Embedder.load`.

        Raises:
            ModelNotFound: no such folder, and the hub does not have it or cannot be reached.
            ModelLoadFailed: the files do not make a reranker.
            InvalidInput, DeviceUnavailable: an argument cannot be used.
        """
        held = check_dtype(dtype)
        checkpoint = open_checkpoint(model, locate(model))
        kind = " ".join(checkpoint.architectures)
        form: type[_CrossEncoder | _YesNo]
        if "ForSequenceClassification" in kind:
            if is_decoder(checkpoint.config.get("model_type")):
                problem = "its classifier on a decoder reads a prompt that only its card knows"
                raise ModelLoadFailed(model, f"{problem}; name the causal checkpoint that it was made from")
            form = _CrossEncoder
        elif "ForCausalLM" in kind:
            form = _YesNo
        else:
            problem = f"its architecture {kind or 'is not named and'} is neither a cross-encoder's nor a causal model's"
            raise ModelLoadFailed(model, f"{problem} (…ForSequenceClassification, …ForCausalLM)")
        chosen = choose_device(device)
        network, tokenizer = _load(checkpoint, form.loader, computing_dtype(held, chosen))
        network = network.to(chosen)
        if is_quantised(held):
            quantise(network.base_model, held, chosen)
        max_tokens = _max_tokens(checkpoint, tokenizer)
        return cls(model, network, form(checkpoint.name, network, tokenizer), chosen, max_tokens)

    def score(self, query: str, passages: Sequence[str], *, task: str | None = None) -> Reranked:
        """The scores of passages, in order.

        Args:
            query: what is asked.
            passages: title and text as one string each.
            task: the instruction of an LLM reranker; None: web search. A cross-encoder takes none.

        Raises:
            InvalidInput: the query alone leaves no room for a passage.
            DeviceOutOfMemory: a batch did not fit.
        """
        rows, truncated = [], 0
        for passage in passages:
            ids, excess = self._form.encode(query, passage, task or DEFAULT_TASK, self.max_tokens)
            rows.append(ids)
            truncated += excess > 0
        scores = np.empty(len(rows), np.float64)
        with self._turn, torch.inference_mode():
            for batch in plan_batches([len(row["input_ids"]) for row in rows], self._batch_tokens, padded=True):
                scores[batch] = self._run([rows[i] for i in batch])
        return Reranked(scores, truncated)

    def _run(self, rows: list[_Encoded]) -> NDArray[np.float64]:
        try:
            logits: Tensor = self._form.logits(self._network, rows, self.device)
        except torch.OutOfMemoryError as error:
            raise DeviceOutOfMemory(self.device, sum(len(row["input_ids"]) for row in rows)) from error
        scores: NDArray[np.float64] = torch.sigmoid(logits.double()).cpu().numpy()
        return scores


_Encoded: TypeAlias = dict[str, list[int]]  # the tokenizer's fields by name, one integer a token


class _CrossEncoder:
    """A pair of query and passage, one logit."""

    loader = "AutoModelForSequenceClassification"

    def __init__(self, name: str, network: Untyped, tokenizer: Untyped) -> None:
        self._tokenizer = tokenizer
        if network.config.num_labels != 1:
            raise ModelLoadFailed(name, f"it tells {network.config.num_labels} classes apart; a reranker has one logit")
        self._pad = network.config.pad_token_id or 0

    def encode(self, query: str, passage: str, task: str, max_tokens: int) -> tuple[_Encoded, int]:
        """The pair's tokens, and how many of the passage's were cut."""
        whole = self._tokenizer(query, passage)
        excess = len(whole["input_ids"]) - max_tokens
        if excess <= 0:
            return dict(whole), 0
        n_passage = len(self._tokenizer(passage, add_special_tokens=False)["input_ids"])
        _check_room(query, n_passage - excess, max_tokens)
        return dict(self._tokenizer(query, passage, truncation="only_second", max_length=max_tokens)), excess

    def logits(self, network: Untyped, rows: list[_Encoded], device: str) -> Tensor:
        """float[n]: one logit a pair."""
        fills = {"input_ids": self._pad}
        # Padded on the right: a model that numbers positions from the pad id (RoBERTa) skips pads by that id.
        arguments = {
            name: _padded([row[name] for row in rows], fills.get(name, 0), left=False).to(device) for name in rows[0]
        }
        logits: Tensor = network(**arguments).logits[:, 0]
        return logits


class _YesNo:
    """The prompt of Qwen3-Reranker; the logit of "yes" less that of "no" at the last position."""

    loader = "AutoModelForCausalLM"

    def __init__(self, name: str, network: Untyped, tokenizer: Untyped) -> None:
        self._tokenizer = tokenizer
        self._prefix, self._suffix = self._ids(PREFIX), self._ids(SUFFIX)
        answers = [tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no")]
        if None in answers or tokenizer.unk_token_id in answers:
            raise ModelLoadFailed(name, 'its vocabulary has no tokens "yes" and "no"')
        self._yes, self._no = answers

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def encode(self, query: str, passage: str, task: str, max_tokens: int) -> tuple[_Encoded, int]:
        """The prompt's tokens, and how many of the passage's were cut."""
        asked = f"<Instruct>: {task}\n<Query>: {query}\n<Document>: "
        body = self._ids(asked + passage)
        room = max_tokens - len(self._prefix) - len(self._suffix)
        excess = len(body) - room
        if excess > 0:
            _check_room(query, room - len(self._ids(asked)), max_tokens)
            body = body[:room]
        return {"input_ids": self._prefix + body + self._suffix}, max(0, excess)

    def logits(self, network: Untyped, rows: list[_Encoded], device: str) -> Tensor:
        """float[n]: the logit of "yes" less that of "no", whose sigmoid is the softmax over the two."""
        # Padded on the left: the last position is the last token of every row, and only its logits are computed.
        ids = _padded([row["input_ids"] for row in rows], 0, left=True).to(device)
        mask = _padded([[1] * len(row["input_ids"]) for row in rows], 0, left=True).to(device)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        last = network(
            input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=1, use_cache=False
        ).logits[:, -1]
        difference: Tensor = last[:, self._yes] - last[:, self._no]
        return difference


def _check_room(query: str, room: int, max_tokens: int) -> None:
    if room < MIN_PASSAGE_TOKENS:
        problem = f"it leaves no room for a passage: the reranker reads {max_tokens} tokens of both together"
        raise InvalidInput("query", f"{query[:40]}…", problem)


def _padded(rows: list[list[int]], fill: int, *, left: bool) -> Tensor:
    """int64[n, longest]."""
    longest = max(len(row) for row in rows)
    full = [[fill] * (longest - len(row)) + row if left else row + [fill] * (longest - len(row)) for row in rows]
    return torch.tensor(full)


def _load(checkpoint: Checkpoint, loader: str, dtype: torch.dtype) -> tuple[Untyped, Untyped]:
    """The network in evaluation mode, and its tokenizer."""
    import transformers

    logging: Untyped = transformers.logging
    logging.disable_progress_bar()
    local = {"trust_remote_code": False, "local_files_only": True}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.folder, **local)
        network, report = getattr(transformers, loader).from_pretrained(
            checkpoint.folder, dtype=dtype, use_safetensors=True, output_loading_info=True, **local
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError) as error:
        raise ModelLoadFailed(
            checkpoint.name, (str(error).strip().splitlines() or [type(error).__name__])[0]
        ) from error
    if report["missing_keys"]:
        raise ModelLoadFailed(checkpoint.name, f"its weights lack {', '.join(sorted(report['missing_keys'])[:5])}")
    return network.eval().requires_grad_(False), tokenizer


def _max_tokens(checkpoint: Checkpoint, tokenizer: Untyped) -> int:
    """The longest input that config.json and the tokenizer allow."""
    config = checkpoint.config
    positions = int(config.get("max_position_embeddings") or MAX_TOKENS)
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= 2  # these models number positions from pad_token_id + 1
    return min(positions, int(min(tokenizer.model_max_length, MAX_TOKENS)))
