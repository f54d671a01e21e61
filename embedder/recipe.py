"""How is a checkpoint used? As data: no code differs between one embedding system and the next.

A ``Recipe`` says which tokens surround the text, what the templates are, what may attend to what, which positions are
pooled, and how long inputs are. ``checkpoint.recipe_for`` derives one from a folder; ``KNOWN`` holds what folders do not
say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from embedder.errors import InvalidRecipe

Attention = Literal["causal", "bidirectional"]
Pooling = Literal["cls", "mean", "last"]
SparseHead = Literal["none", "mlm_max", "tuned"]
Landmark = Literal["none", "span_mean", "end_token"]
Dtype = Literal["float32", "bfloat16", "float16"]

DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16", "float16")
WEB_SEARCH_TASK = "Given a web search query, retrieve relevant passages that answer the query"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides which vector a text gets, except the weights and the tokenizer.

    Attributes:
        name: the model's name, for people.
        query_template: the text of a query; ``{text}`` is the query, ``{task}`` the task.
        document_template: the text of a document; ``{title}`` (with the white space after it) vanishes when the title
            is empty; ``{text}`` comes last.
        empty_title: stands in for an empty title, for templates that need one ("none").
        default_task: the task when a call names none.
        prepend, append: special tokens around every input, as text. None: those of the tokenizer's own template.
        attention: "bidirectional" makes a decoder look both ways.
        pooling: the pooled position(s) of a window that holds one passage.
        pool_prompt: whether a mean includes the prompt's tokens.
        normalise: whether dense vectors have unit length.
        projections: folders of dense layers after the pooling, in order, inside the checkpoint.
        matryoshka_dims: the prefixes that the model was trained for, descending; empty: not trained for any.
        has_dense: whether the dense vectors were trained for similarity (a SPLADE checkpoint's were not).
        sparse_head: "mlm_max": max over tokens of log(1 + relu(logit)), by the checkpoint's own vocabulary layer;
            "tuned": the head of a tuned model (``sparse_heads``).
        sparse_idf: whether the index must multiply the terms of a sparse query by its own inverse document frequencies.
        max_tokens: the longest input of the model, special tokens included; longer queries are cut.
        window_tokens: the longest window of a document, special tokens included.
        passage_tokens: the most tokens of one passage.
        landmark: how several passages share a window; "none": they do not. "span_mean" pools each passage's tokens
            (late chunking), "end_token" closes each passage with the last token of ``append`` and takes its state.
    """

    name: str
    query_template: str = "{text}"
    document_template: str = "{title} {text}"
    empty_title: str = ""
    default_task: str = WEB_SEARCH_TASK
    prepend: tuple[str, ...] | None = None
    append: tuple[str, ...] | None = None
    attention: Attention = "bidirectional"
    pooling: Pooling = "mean"
    pool_prompt: bool = True
    normalise: bool = True
    projections: tuple[str, ...] = ()
    matryoshka_dims: tuple[int, ...] = ()
    has_dense: bool = True
    sparse_head: SparseHead = "none"
    sparse_idf: bool = False
    max_tokens: int = 512
    window_tokens: int = 512
    passage_tokens: int = 512
    landmark: Landmark = "none"

    def __post_init__(self) -> None:
        """Check the fields against each other.

        Raises:
            InvalidRecipe: a field has a value that cannot be used.
        """
        if "{text}" not in self.query_template:
            raise InvalidRecipe("query_template", self.query_template, "it must contain {text}")
        if not self.document_template.endswith("{text}"):
            raise InvalidRecipe("document_template", self.document_template, "it must end with {text}")
        if self.max_tokens < 8:
            raise InvalidRecipe("max_tokens", self.max_tokens, "it must be at least 8")
        if not 8 <= self.window_tokens <= self.max_tokens:
            raise InvalidRecipe("window_tokens", self.window_tokens, f"it must be 8 to max_tokens = {self.max_tokens}")
        if not 1 <= self.passage_tokens <= self.window_tokens:
            raise InvalidRecipe("passage_tokens", self.passage_tokens, "it must be 1 to window_tokens")
        if self.landmark == "span_mean" and self.pooling != "mean":
            raise InvalidRecipe("landmark", self.landmark, f"span_mean needs mean pooling, not {self.pooling}")
        if self.landmark == "end_token" and self.pooling != "last":
            raise InvalidRecipe("landmark", self.landmark, f"end_token needs last-token pooling, not {self.pooling}")

    @property
    def shares_windows(self) -> bool:
        """Whether one window may hold several passages."""
        return self.landmark != "none" and self.passage_tokens < self.window_tokens

    def query_text(self, text: str, task: str | None) -> str:
        """The query as the model reads it; ``task`` None means the recipe's default task."""
        task = self.default_task if task is None else task
        return _fill(self.query_template, {"task": task, "text": text})

    def document_prefix(self, title: str) -> str:
        """What precedes a document's text: the prompt and the title."""
        template = self.document_template.removesuffix("{text}")
        title = title.strip() or self.empty_title
        if not title:
            return re.sub(r"\{title\}\s?", "", template)
        return _fill(template, {"title": title})


def _fill(template: str, values: dict[str, str]) -> str:
    """Replace ``{name}`` by its value, once each: braces inside the values stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match.group(1), match.group(0)), template)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a published checkpoint needs and its folder may not say. None keeps what the folder says.

    ``pattern`` is matched against the lower-cased last part of the model's name or folder.
    """

    pattern: str
    query_template: str | None = None
    document_template: str | None = None
    empty_title: str | None = None
    prepend: tuple[str, ...] | None = None
    append: tuple[str, ...] | None = None
    attention: Attention | None = None
    pooling: Pooling | None = None
    normalise: bool | None = None
    matryoshka_dims: tuple[int, ...] | None = None
    max_tokens: int | None = None


# The templates are facts of the published models; where a model card and its code disagree, the code's form is taken.
KNOWN: tuple[Known, ...] = (
    Known(
        # https://huggingface.co/Qwen/Qwen3-Embedding-0.6B: no space after "Query:"; <|endoftext|> closes every input;
        # any Matryoshka dim from 32; 8192 of the 32k tokens are used by the card.
        pattern=r"qwen3-embedding-.*",
        query_template="Instruct: {task}\nQuery:{text}",
        prepend=(),
        append=("<|endoftext|>",),
        attention="causal",
        pooling="last",
        normalise=True,
        matryoshka_dims=(4096, 2560, 1024, 768, 512, 256, 128, 64, 32),
        max_tokens=8192,
    ),
    Known(
        # E5-mistral, SFR and Linq share template and pooling; transformers 5 drops </s> unless we append it.
        pattern=r"(e5-mistral-7b-instruct|sfr-embedding-mistral|linq-embed-mistral)",
        query_template="Instruct: {task}\nQuery: {text}",
        prepend=("<s>",),
        append=("</s>",),
        attention="causal",
        pooling="last",
        normalise=True,
        max_tokens=4096,
    ),
    Known(
        pattern=r"gte-qwen(1\.5|2)-.*instruct",
        query_template="Instruct: {task}\nQuery: {text}",
        prepend=(),
        append=("<|endoftext|>",),
        attention="bidirectional",
        pooling="last",
        normalise=True,
        max_tokens=8192,
    ),
    Known(
        pattern=r"(multilingual-)?e5-(small|base|large)(-v2)?",
        query_template="query: {text}",
        document_template="passage: {title} {text}",
        pooling="mean",
        normalise=True,
    ),
    Known(
        pattern=r"bge-(small|base|large)-en(-v1\.5)?",
        query_template="Represent this sentence for searching relevant passages: {text}",
        pooling="cls",
        normalise=True,
    ),
    Known(
        pattern=r"embeddinggemma-.*",
        query_template="task: search result | query: {text}",
        document_template="title: {title} | text: {text}",
        empty_title="none",
        matryoshka_dims=(768, 512, 256, 128),
    ),
    Known(
        pattern=r"nomic-embed-text-v1\.5",
        query_template="search_query: {text}",
        document_template="search_document: {title} {text}",
        pooling="mean",
        normalise=True,
        matryoshka_dims=(768, 512, 256, 128, 64),
    ),
    Known(
        pattern=r"snowflake-arctic-embed-(xs|s|m|l)",
        query_template="Represent this sentence for searching relevant passages: {text}",
        pooling="cls",
        normalise=True,
    ),
)


def known_for(name: str) -> Known | None:
    """What is known about the model of this name or folder, or None."""
    last = name.rstrip("/").rsplit("/", 1)[-1].lower()
    return next((known for known in KNOWN if re.fullmatch(known.pattern, last)), None)
