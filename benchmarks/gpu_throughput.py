"""How much of a GPU does the embedder use, beside sentence-transformers, on the same texts in the same run?

    python -m benchmarks.gpu_throughput                                          # one command, on a machine with a GPU
    python -m benchmarks.gpu_throughput --device cpu --layers 2 --hidden 64      # the same path, as a toy

The speed of a transformer does not depend on its weights, so decoders of the real shapes (Qwen3-Embedding-0.6B; the
Mistral-7B of E5, SFR and Linq) are made with random ones, and nothing is downloaded. The tokenizer is a byte-level BPE
trained on the spot on the same text as the texts are made of: the standard library.

Two sets: ``512`` (every text near 512 tokens) and ``varied`` (16 to 1,024 tokens, lengths spread evenly on a logarithmic
scale). For each: tokens/s, the share of the bf16 peak by the usual formula (2 FLOP a weight and token, attention
4 * layers * heads * head width * length, half of it, since causal; the embedding table left out), the share of the
computed positions that are padding, the share of the time outside the network's forward passes, the ratio to
sentence-transformers, and the least cosine between the two. ``sparse``: the same with term weights from the whole vocabulary
by the maximum over tokens. Prints a table and one JSON line. Without a GPU, and without --device cpu, it exits with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.embed_throughput import read_texts
from benchmarks.report import environment, print_json, print_table
from embedder.checkpoint import open_checkpoint, recipe_for
from embedder.dtypes import Dtype
from embedder.embedder import DocumentInput, Embedder
from embedder.recipe import Recipe

MAX_TOKENS = 1024
VOCABULARY = 151_936
BPE_TOKENS = 32_000
BPE_CHARACTERS = 4_000_000
END = "<|endoftext|>"
# Dense bf16 peaks in TFLOP/s, from the vendors' data sheets.
PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "RTX 4090": 165.0}
SHAPES: dict[str, dict[str, int | bool]] = {
    "0.6b": {
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "tie_word_embeddings": True,
    },
    "7b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "tie_word_embeddings": False,
    },
}


@dataclass(frozen=True, slots=True)
class Result:
    """One model on one set; medians over the rounds."""

    model: str
    texts: str
    n_tokens: int
    tokens_per_s: float
    of_peak: float | None
    padding: float
    outside: float
    theirs_per_s: float | None
    ratio: float | None
    least_cosine: float | None
    sparse_cost: float | None


class ForwardMeter:
    """Time and positions of a network's forward passes, by hooks. On a GPU the time is that of its own clock."""

    def __init__(self, network: torch.nn.Module, device: str) -> None:
        self._on_gpu = device.startswith("cuda")
        self._began = threading.local()  # workers run side by side
        self._origin = self._now()
        self._spans: list[tuple[Any, Any]] = []
        self.positions = 0
        network.register_forward_pre_hook(self._before, with_kwargs=True)
        network.register_forward_hook(self._after)

    def _now(self) -> Any:  # noqa: ANN401 - an event of the GPU's clock, or seconds
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _before(self, _: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._began.at = self._now()
        self.positions += kwargs["input_ids"].numel()

    def _after(self, *_: object) -> None:
        self._spans.append((self._began.at, self._now()))

    def reset(self) -> None:
        """Forget what was measured."""
        self._spans.clear()
        self.positions = 0

    def seconds(self) -> float:
        """Since the last reset, with at least one forward pass running."""
        if self._on_gpu:
            torch.cuda.synchronize()
        busy, reached = 0.0, 0.0
        for start, end in sorted((self._since_origin(start), self._since_origin(end)) for start, end in self._spans):
            busy += max(0.0, end - max(start, reached))
            reached = max(reached, end)
        return busy

    def _since_origin(self, moment: Any) -> float:  # noqa: ANN401 - see _now
        return float(self._origin.elapsed_time(moment)) / 1000 if self._on_gpu else float(moment - self._origin)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", default="0.6b,7b", help=f"of {', '.join(SHAPES)}, by commas")
    parser.add_argument("--tokens", type=int, default=2_000_000, help="tokens of each set")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int, help="tokens of a forward pass; default: the embedder's")
    parser.add_argument("--workers", type=int, default=1, help="forward passes at once; more hide what precedes them")
    parser.add_argument("--batch-size", type=int, default=64, help="texts of a batch of sentence-transformers")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--no-peer", action="store_true", help="leave sentence-transformers out")
    parser.add_argument("--no-sparse", action="store_true", help="leave the sparse head out")
    parser.add_argument("--layers", type=int, help="another number of layers, for a toy")
    parser.add_argument("--hidden", type=int, help="another width, for a toy: its heads are 16 wide")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            "There is no CUDA device on this machine. --device cpu --layers 2 --hidden 64 runs a toy.", file=sys.stderr
        )
        return 1
    texts = list(read_texts(None))
    random.Random(options.seed).shuffle(texts)
    results: list[Result] = []
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            make_checkpoint(Path(folder), name, texts, options)
            results += measure(Path(folder), name, texts, options)
    header = [name.replace("_", " ") for name in Result.__slots__]
    print_table(header, [list(asdict(result).values()) for result in results])
    print()
    gpu = torch.cuda.get_device_name() if options.device.startswith("cuda") else None
    found = [asdict(result) for result in results]
    machine = environment(options.seed, ("torch", "transformers", "sentence-transformers", "tokenizers"))
    print_json({"benchmark": "gpu_throughput", **vars(options), "gpu": gpu, "environment": machine, "results": found})
    return 0


def make_checkpoint(folder: Path, name: str, texts: Sequence[str], options: argparse.Namespace) -> None:
    """A decoder of a published shape with random weights, its tokenizer, and the files of sentence-transformers."""
    from transformers import MistralConfig, MistralForCausalLM, Qwen3Config, Qwen3ForCausalLM

    shape: dict[str, Any] = {**SHAPES[name], "head_dim": 128}
    if options.hidden:
        heads = max(2, options.hidden // 16)
        shape |= {"hidden_size": options.hidden, "intermediate_size": 3 * options.hidden, "head_dim": 16}
        shape |= {"num_attention_heads": heads, "num_key_value_heads": heads // 2}
    if options.layers:
        shape["num_hidden_layers"] = options.layers
    end = make_tokenizer(folder, texts)
    settings = {**shape, "vocab_size": VOCABULARY, "max_position_embeddings": 32768, "eos_token_id": end}
    torch.manual_seed(options.seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, options.dtype))
    try:
        with torch.device(options.device):
            if name == "7b":
                model: Any = MistralForCausalLM(MistralConfig(**settings, sliding_window=None))
            else:
                model = Qwen3ForCausalLM(Qwen3Config(**settings))
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": settings["hidden_size"], "pooling_mode_lasttoken": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling | {"pooling_mode_mean_tokens": False}))


def make_tokenizer(folder: Path, texts: Sequence[str]) -> int:
    """Train and save a byte-level BPE that ends every text with ``END``; the id of that token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    sample, size = [], 0
    for text in texts:
        sample.append(text)
        size += len(text)
        if size >= BPE_CHARACTERS:
            break
    trainer = trainers.BpeTrainer(vocab_size=BPE_TOKENS, special_tokens=[END], show_progress=False)
    backend.train_from_iterator(sample, trainer)
    end: int = backend.token_to_id(END)
    backend.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, end)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END, pad_token=END, model_max_length=MAX_TOKENS, padding_side="right"
    )
    tokenizer.save_pretrained(folder)
    return end


def measure(folder: Path, name: str, texts: Sequence[str], options: argparse.Namespace) -> list[Result]:
    """All sets of one model."""
    recipe = replace(
        recipe_for(open_checkpoint(name, folder)),
        name=name,
        attention="causal",
        pooling="last",
        prepend=(),
        append=(END,),
        max_tokens=MAX_TOKENS,
        window_tokens=MAX_TOKENS,
        passage_tokens=MAX_TOKENS,
        landmark="none",
    )
    results = []
    for texts_name, low, high in (("512", 500, 500), ("varied", 16, MAX_TOKENS - 32)):
        chosen = cut_texts(folder, texts, (low, high), options)
        ours, seconds, meter_values = run_ours(folder, recipe, chosen, options)
        n_tokens, flops, outside, padding = meter_values
        dense_s = statistics.median(seconds)
        theirs, their_s, cosine = None, None, None
        if not options.no_peer:
            theirs, their_s = run_theirs(folder, chosen, options)
            cosine = float((ours * theirs).sum(1).min())
        sparse = None
        if not options.no_sparse:
            with_terms = replace(recipe, sparse_head="lm_max", sparse_terms=128)
            _, sparse_s, _ = run_ours(folder, with_terms, chosen, options)
            sparse = round(statistics.median(sparse_s) / dense_s - 1, 3)
        peak = peak_flops(options)
        results.append(
            Result(
                model=name,
                texts=texts_name,
                n_tokens=n_tokens,
                tokens_per_s=round(n_tokens / dense_s, 1),
                of_peak=None if peak is None else round(flops / dense_s / peak, 3),
                padding=round(padding, 4),
                outside=round(outside, 4),
                theirs_per_s=None if their_s is None else round(n_tokens / their_s, 1),
                ratio=None if their_s is None else round(their_s / dense_s, 2),
                least_cosine=None if cosine is None else round(cosine, 5),
                sparse_cost=sparse,
            )
        )
    return results


def cut_texts(folder: Path, texts: Sequence[str], lengths: tuple[int, int], options: argparse.Namespace) -> list[str]:
    """Pieces of the texts, of lengths spread evenly on a logarithmic scale, up to a number of tokens in all."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rng = random.Random(options.seed)
    chosen, total = [], 0
    while total < options.tokens:
        for text in texts:
            encoding = tokenizer.encode(text[:400_000], add_special_tokens=False)
            start = 0
            while start < len(encoding) and total < options.tokens:
                length = round(float(np.exp(rng.uniform(*np.log(lengths)))))
                end = min(start + length, len(encoding)) - 1
                chosen.append(text[encoding.offsets[start][0] : encoding.offsets[end][1]].strip() or "x")
                total += end + 1 - start
                start = end + 1
            if total >= options.tokens:
                break
    rng.shuffle(chosen)
    return chosen


def run_ours(
    folder: Path, recipe: Recipe, texts: Sequence[str], options: argparse.Namespace
) -> tuple[np.ndarray, list[float], tuple[int, float, float, float]]:
    """Dense vectors, the seconds of each round, and (tokens, FLOP, share outside the network, share of padding)."""
    dtype: Dtype = options.dtype
    documents = [DocumentInput("", text) for text in texts]
    network, restore = catch_network()
    try:
        embedder = Embedder.load(
            str(folder),
            device=options.device,
            dtype=dtype,
            recipe=recipe,
            max_batch_tokens=options.batch_tokens,
            workers=options.workers,
        )
    finally:
        restore()
    with embedder:
        meter = ForwardMeter(network[0], options.device)
        embedder.embed_documents(documents[:64])  # warm-up
        seconds, outside, padding = [], [], []
        for _ in range(options.rounds):
            meter.reset()
            began = time.perf_counter()
            embedded = embedder.embed_documents(documents)
            seconds.append(time.perf_counter() - began)
            outside.append(1 - meter.seconds() / seconds[-1])
            lengths = np.array([document.read + 1 for document in embedded])  # the end token counts
            padding.append(1 - int(lengths.sum()) / meter.positions)
    vectors = np.stack([document.passages[0].vectors.dense for document in embedded])
    flops = float((lengths * flops_per_token(network[0], lengths)).sum())
    values = (int(lengths.sum()), flops, statistics.median(outside), statistics.median(padding))
    return vectors, seconds, values


def catch_network() -> tuple[list[torch.nn.Module], Callable[[], None]]:
    """A list that will hold the base network of the next model that is loaded, and what undoes the catching."""
    from embedder import model

    caught: list[torch.nn.Module] = []
    load = model.load_network

    def catching(*arguments: Any, **more: Any) -> Any:  # noqa: ANN401 - a transformers model
        network = load(*arguments, **more)
        caught.append(network.base_model)
        return network

    model.load_network = catching

    def restore() -> None:
        model.load_network = load

    return caught, restore


def flops_per_token(network: torch.nn.Module, lengths: np.ndarray) -> np.ndarray:
    """FLOP of one token in a text of each length: weights and causal attention."""
    config: Any = network.config
    weights = sum(weight.numel() for weight in network.layers.parameters())  # type: ignore[union-attr, operator]
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * lengths / 2
    return 2 * weights + attention


def run_theirs(folder: Path, texts: Sequence[str], options: argparse.Namespace) -> tuple[np.ndarray, float]:
    """Vectors of sentence-transformers, and the median seconds of a round; it sorts by length and pads."""
    from sentence_transformers import SentenceTransformer

    dtype = {"dtype": getattr(torch, options.dtype)}
    model = SentenceTransformer(str(folder), device=options.device, model_kwargs=dtype, local_files_only=True)
    model.encode(list(texts[:64]), batch_size=options.batch_size, show_progress_bar=False)
    seconds = []
    for _ in range(options.rounds):
        began = time.perf_counter()
        vectors = model.encode(list(texts), batch_size=options.batch_size, show_progress_bar=False)
        seconds.append(time.perf_counter() - began)
    return np.asarray(vectors, np.float32), statistics.median(seconds)


def peak_flops(options: argparse.Namespace) -> float | None:
    """The device's dense bf16 peak in FLOP/s; None when it is not known."""
    if not options.device.startswith("cuda"):
        return None
    name = torch.cuda.get_device_name()
    return next((1e12 * peak for part, peak in PEAKS.items() if part in name), None)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    sys.exit(main())
