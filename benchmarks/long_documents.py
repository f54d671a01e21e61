"""How should passages of a long document be embedded: alone, or from a window that they share?

    python -m benchmarks.long_documents meetings ../shared/eval/qmsum_train --documents 60
    python -m benchmarks.long_documents articles ../shared/eval/xquad_en

``naive`` gives every passage to the model alone; ``late`` (late chunking, Günther et al. 2024) lets consecutive passages
share a window and takes the mean of each passage's own states; ``blend`` takes the mean of both vectors. All use the same
splitter, budget and model. With ``--extend METHODS --targets TOKENS`` it also measures one vector for up to so many tokens at
once, by the methods of ``embedder.context_extension``; the model's own positions are what they extend (``--positions``).

meetings: a BEIR folder of long documents; a document scores as its best passage (nDCG@10 over documents).
articles: a BEIR folder of paragraphs whose ids are ARTICLE-NUMBER; the paragraphs of an article are joined into one
document, and a query must find its paragraph among all paragraphs (nDCG@10): each passage counts for the paragraph that
holds its middle.

Dense only, exact, so that nothing but the vectors differs. Prints a Markdown table and one line of JSON.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.report import environment, print_json, print_table
from embedder.context_extension import ContextExtension
from embedder.embedder import DocumentInput, Embedder
from embedder.recipe import Landmark
from embedder.source import find_model
from engine.evaluation import Qrels, evaluate, read_corpus, read_evaluation_set
from engine.values import Document

MODEL_TOKENS = 512  # positions of the built-in backbone
JOINT = "\n\n"
SHARED: dict[str, Landmark] = {"late": "span_mean", "blend": "blend"}


@dataclass(frozen=True, slots=True)
class Task:
    """Documents, their queries, and which unit a span of a document counts for."""

    documents: Sequence[Document]
    queries: Mapping[str, str]
    qrels: Qrels
    unit_of: Callable[[str, int, int], str]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["meetings", "articles"])
    parser.add_argument("folder", type=Path, help="a BEIR folder")
    parser.add_argument("--documents", type=int, default=0, help="meetings: the first so many only; 0: all")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--passages", default="64,128,256", help="passage budgets in tokens, by commas")
    parser.add_argument("--windows", default="256,512", help="window budgets of the late variants, by commas")
    parser.add_argument("--extend", default="", help="methods of context extension, by commas")
    parser.add_argument("--targets", default="2048", help="tokens of one vector by an extension, by commas")
    parser.add_argument("--positions", type=int, default=256, help="positions of the model that extensions start from")
    arguments = parser.parse_args()
    task = _meetings(arguments.folder, arguments.documents) if arguments.kind == "meetings" else _articles(arguments)
    rows: list[list[object]] = []
    for passage in map(int, arguments.passages.split(",")):
        rows.append(_measure(arguments.model, task, "naive", passage, 0))
        windows = [window for window in map(int, arguments.windows.split(",")) if window > passage]
        rows += [_measure(arguments.model, task, how, passage, window) for window in windows for how in SHARED]
    for target in map(int, arguments.targets.split(",")):
        for method in filter(None, arguments.extend.split(",")):
            table = {"method": method, "original_tokens": arguments.positions, "target_tokens": target}
            rows.append(_measure(arguments.model, task, method, target, target, table))
    print(f"{arguments.kind}: {len(task.documents)} documents, {len(task.queries)} queries, dense nDCG@10\n")
    print_table(["variant", "passage tokens", "window tokens", "passages", "nDCG@10", "tokens/s"], rows)
    print()
    print_json({"benchmark": "long_documents", "kind": arguments.kind, "environment": environment(0), "rows": rows})


def _measure(
    model: str, task: Task, variant: str, passage: int, window: int, extension: Mapping[str, object] | None = None
) -> list[object]:
    recipe = replace(find_model(model).recipe, max_tokens=MODEL_TOKENS, landmark="none")
    if extension is not None:
        sizes = {"max_tokens": window, "window_tokens": window, "passage_tokens": window}
        recipe = replace(recipe, context_extension=ContextExtension.of(extension, MODEL_TOKENS), **sizes)
    elif variant == "naive":
        # The window has room for the passage and the special tokens around it.
        recipe = replace(recipe, passage_tokens=passage, window_tokens=min(MODEL_TOKENS, passage + 2))
    else:
        recipe = replace(recipe, passage_tokens=passage, window_tokens=window, landmark=SHARED[variant])
    with Embedder.load(model, recipe=recipe) as embedder:
        started = time.perf_counter()
        embedded = embedder.embed_documents([DocumentInput(d.title, d.text) for d in task.documents])
        seconds = time.perf_counter() - started
        queries = np.stack([query.dense for query in embedder.embed_queries(list(task.queries.values()))])
    units, vectors = [], []
    for document, passages in zip(task.documents, embedded, strict=True):
        for one in passages.passages:
            units.append(task.unit_of(document.doc_id, one.start, one.end))
            vectors.append(one.vectors.dense)
    names, owners = np.unique(units, return_inverse=True)
    best = np.full((len(queries), len(names)), -1.0, np.float32)
    np.maximum.at(best.T, owners, (queries @ np.stack(vectors).T).T)
    run = {
        query_id: [(str(names[i]), float(row[i])) for i in np.argsort(-row, kind="stable")[:100]]
        for query_id, row in zip(task.queries, best, strict=True)
    }
    tokens = sum(document.embedded for document in embedded)
    score = evaluate(run, task.qrels).ndcg_at_10
    return [variant, passage, window or passage + 2, len(units), score, round(tokens / seconds)]


def _meetings(folder: Path, limit: int) -> Task:
    found = read_evaluation_set(folder)
    documents = list(read_corpus(found.corpus))
    documents = documents[: limit or len(documents)]
    kept = {document.doc_id for document in documents}
    qrels = {query: judged for query, judged in found.qrels.items() if kept & judged.keys()}
    queries = {query: found.queries[query] for query in qrels}
    return Task(documents, queries, qrels, lambda doc_id, start, end: doc_id)


def _articles(arguments: argparse.Namespace) -> Task:
    found = read_evaluation_set(arguments.folder)
    paragraphs: dict[str, list[Document]] = {}
    for document in read_corpus(found.corpus):
        paragraphs.setdefault(document.doc_id.rpartition("-")[0], []).append(document)
    documents, starts = [], {}
    for article, members in paragraphs.items():
        documents.append(Document(doc_id=article, text=JOINT.join(member.text for member in members)))
        lengths = [len(member.text) + len(JOINT) for member in members]
        starts[article] = ([member.doc_id for member in members], np.cumsum([0, *lengths[:-1]]))

    def paragraph_at(article: str, start: int, end: int) -> str:
        ids, firsts = starts[article]
        return ids[int(np.searchsorted(firsts, (start + end) // 2, side="right")) - 1]

    return Task(documents, found.queries, found.qrels, paragraph_at)


if __name__ == "__main__":
    main()
