"""What does a collection's model learn from, and what judges it?

Examples come from a file, from the collection's own documents, or from a language model that writes queries for its
passages; the supervised ones are learned last. A part is kept apart for judging before anything else happens. Hard
negatives are found with the collection's own index. What was gathered is written down, so that a run which was killed
learns the same things when it goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.api import CollectionApi
from engine.errors import InvalidArgument
from engine.storage.durable import write_atomic
from engine.tuning.options import TuneOptions
from engine.values import Query

if TYPE_CHECKING:
    from embedder.tuning.corpus_pairs import SourceDocument
    from embedder.tuning.examples import Example
    from embedder.tuning.mining import Hit

WEAK, SYNTHETIC, SUPERVISED = "corpus", "synthetic", "pairs"
PAGE = 256
SEARCH_BATCH = 64
MAX_QUERY_CHARACTERS = 8_192
NEGATIVE_POOL = 10  # negatives are drawn from so many of the best hits
GENERATED = 500  # passages for which a language model writes queries
ANSWER_TOKENS = 512  # of each of its answers


@dataclass(frozen=True, slots=True)
class Material:
    """What is learned, stage by stage, and what judges.

    Attributes:
        stages: (name, examples), the supervised ones last; none is empty.
        held_out: examples that are not learned; they are of the last stage's kind.
        passages: other texts of the collection, for distractors and for masked prediction.
    """

    stages: tuple[tuple[str, tuple[Example, ...]], ...]
    held_out: tuple[Example, ...]
    passages: tuple[str, ...]


def gather(collection: CollectionApi, options: TuneOptions) -> Material:
    """Make the examples, keep some apart, and mine negatives for the others.

    Raises:
        InvalidArgument: the collection has no texts from which examples could be made, and no pairs were given.
        EmbedderError: the pairs cannot be read, or too few are left.
    """
    from embedder.tuning.corpus_pairs import corpus_pairs
    from embedder.tuning.examples import read_examples, split_held_out

    weak = corpus_pairs(source_documents(collection), seed=options.seed, limit=options.max_examples)
    kinds: list[tuple[str, Sequence[Example]]] = [(WEAK, weak)]
    if options.generator is not None:
        kinds.append((SYNTHETIC, _written(weak, options)))
    if options.pairs is not None:
        kinds.append((SUPERVISED, read_examples(options.pairs)))
    kinds = [(name, examples) for name, examples in kinds if examples]
    if not kinds:
        raise InvalidArgument("collection", "no examples can be made from its documents; give pairs")
    *earlier, (name, best) = kinds
    learned, held_out = split_held_out(best, fraction=options.held_out, seed=options.seed)
    asked = {example.query for example in held_out}
    stages = [(kind, [e for e in examples if e.query not in asked]) for kind, examples in earlier] + [(name, learned)]
    passages = list(dict.fromkeys(example.positive for example in weak))
    np.random.default_rng(options.seed).shuffle(passages)
    return Material(
        tuple((kind, tuple(_with_negatives(collection, examples, options))) for kind, examples in stages if examples),
        tuple(held_out),
        tuple(passages),
    )


def source_documents(collection: CollectionApi) -> Iterator[SourceDocument]:
    """Every document of a collection, in the order of its ids."""
    from embedder.tuning.corpus_pairs import SourceDocument

    after: str | None = None
    while True:
        page = collection.scroll(limit=PAGE, after=after)
        for document in page.documents:
            if document.text.strip():
                yield SourceDocument(document.title, document.text, document.doc_id)
        if (after := page.next_after) is None:
            return


def _written(weak: Sequence[Example], options: TuneOptions) -> list[Example]:
    """Examples whose queries a language model wrote."""
    from embedder.generation.generator import LocalGenerator, Sampling
    from embedder.generation.prompts import Prompt, plain
    from embedder.tuning.synthetic import synthetic_examples

    assert options.generator is not None
    passages = list(dict.fromkeys(example.positive for example in weak))
    np.random.default_rng(options.seed).shuffle(passages)
    generator = LocalGenerator(options.generator, sampling=Sampling(temperature=1.0, top_p=1.0, seed=options.seed))

    def generate(asked: Sequence[str]) -> list[str]:
        return [plain(answer) for answer in generator.generate(list(map(Prompt, asked)), max_new_tokens=ANSWER_TOKENS)]

    return synthetic_examples(passages[:GENERATED], generate, style="qwen3", seed=options.seed)


def _with_negatives(collection: CollectionApi, examples: Sequence[Example], options: TuneOptions) -> list[Example]:
    from embedder.tuning.mining import mine_negatives

    if not options.negatives:
        return list(examples)
    return mine_negatives(
        examples,
        lambda texts, depth: search(collection, texts, depth),
        per_query=options.negatives,
        pool=max(NEGATIVE_POOL, options.negatives),
        seed=options.seed,
    )


def search(collection: CollectionApi, texts: Sequence[str], depth: int) -> list[list[Hit]]:
    """The best passages for each text by the collection's own hybrid search, best first, one a document."""
    from embedder.tuning.mining import Hit

    found = []
    for start in range(0, len(texts), SEARCH_BATCH):
        queries = [
            Query(text=text[:MAX_QUERY_CHARACTERS], limit=depth, passages=1, explain=False)
            for text in texts[start : start + SEARCH_BATCH]
        ]
        for result in collection.query_batch(queries):
            found.append([Hit(hit.passages[0].text, hit.score) for hit in result.hits if hit.passages])
    return found


def write_material(folder: Path, material: Material) -> None:
    """Write the material down, durable when this returns."""
    parts = {
        "stages": [[name, [_fields(example) for example in examples]] for name, examples in material.stages],
        "held_out": [_fields(example) for example in material.held_out],
        "passages": material.passages,
    }
    write_atomic(folder / "material.json", json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def read_material(folder: Path) -> Material:
    """What `write_material` wrote."""
    parts = json.loads((folder / "material.json").read_bytes().decode("utf-8", "surrogatepass"))
    return Material(
        tuple((name, tuple(_examples(fields))) for name, fields in parts["stages"]),
        tuple(_examples(parts["held_out"])),
        tuple(parts["passages"]),
    )


def _fields(example: Example) -> list[object]:
    return [example.query, example.positive, example.negatives, example.scores, example.source]


def _examples(stored: Iterable[list[object]]) -> Iterator[Example]:
    from embedder.tuning.examples import Example

    for query, positive, negatives, scores, source in stored:
        yield Example(query, positive, tuple(negatives), tuple(scores), source)  # type: ignore[arg-type]
