"""How is a checkpoint used? As data: no code differs between one embedding system and the next.

A ``Recipe`` says which tokens surround the text, what the templates are, what may attend to what, which positions are
pooled and how, which heads follow, and how long inputs are. ``checkpoint.recipe_for`` derives one from a folder and lays
over it what is known of published systems.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self, TypeAlias, get_args

from embedder.context_extension import ContextExtension
from embedder.errors import InvalidRecipe
from embedder.recipe_values import checked_value
from embedder.tasks import Tasks, instruction_of, tasks_of
from embedder.templates import Piece, fill, pieces, quotable_sentence

Attention = Literal["causal", "bidirectional"]
Pooling = Literal["cls", "mean", "weighted_mean", "last"]
Pooled = Literal["all", "after_prompt", "text_to_end", "text"]
Cleanup = Literal["none", "sentence"]
Similarity = Literal["cosine", "dot"]
SparseHead = Literal["none", "mlm_max", "lm_max", "next_token", "token_linear", "tuned"]
SparseActivation = Literal["log1p", "log1p_log1p", "relu"]
SparsePooling = Literal["max", "sum"]
SparseQuery = Literal["model", "binary", "idf"]
MultiHead = Literal["none", "token_linear"]
TokenHead = Literal["none", "latent_attention"]
Landmark = Literal["none", "span_mean", "blend", "end_token"]
MEANS_OF_SPANS: tuple[Landmark, ...] = ("span_mean", "blend")  # which a model that pools the mean can give untrained
Template: TypeAlias = str | tuple[str, ...]

DEFAULT_PASSAGE_TOKENS = 512
WEB_SEARCH_TASK = "Given a web search query, retrieve relevant passages that answer the query"
_TITLE = re.compile(r"\{title\}\s?")
_CHOICES: dict[str, tuple[str, ...]] = {
    "attention": get_args(Attention),
    "pooling": get_args(Pooling),
    "pooled": get_args(Pooled),
    "cleanup": get_args(Cleanup),
    "similarity": get_args(Similarity),
    "sparse_head": get_args(SparseHead),
    "sparse_activation": get_args(SparseActivation),
    "sparse_pooling": get_args(SparsePooling),
    "sparse_query": get_args(SparseQuery),
    "multi_head": get_args(MultiHead),
    "token_head": get_args(TokenHead),
    "landmark": get_args(Landmark),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides which vector a text gets, except the weights and the tokenizer.

    The input is ``prepend + tokens of the filled template + append``, cut within ``{text}`` when it is too long, so that
    the tokens around the text always stand. The vector is the pooled states of the ``pooled`` positions, through the
    heads.

    Attributes:
        name: the model's name, for people.

        query_template: the text of a query: ``{text}`` is the query, ``{task}`` the task, ``{shots}`` examples (see
            ``shot_template``). ``{text}`` may stand more than once (Echo). Several templates: one input each, and the
            vector is the mean of theirs before it is normalised (MetaEOL).
        document_template: the text of a document; ``{title}`` (with the white space after it) vanishes when the title
            is empty, and in a template without it the title precedes the text. Otherwise as ``query_template``.
        empty_title: stands in for an empty title, for templates that need one ("none").
        shot_template: one example of a few-shot query: ``{task}``, ``{query}``, ``{document}`` (BGE-en-ICL, RARe).
        default_task: a query's task when a call names none, as the template says it.
        tasks: instructions by name, which a call may ask for by that name.
        default_document_task: likewise a document's, for the few systems whose documents have one (Instructor).
        cleanup: "sentence": what PromptEOL's family does to a text before it stands in quotes: a full stop is added
            where the text ends in none of ``. ? " '``, double quotes become single, a final "?" becomes ".".
        separate_pieces: tokenise every filled field and every stretch of template between them on its own (Echo,
            PromptReps) instead of all as one string; the ids differ.

        prepend, append: special tokens around every input, as text. None: those of the tokenizer's own template.
        query_prepend, query_append: those of queries where they differ (SGPT's brackets). None: as for documents.

        attention: "bidirectional" makes a decoder look both ways.
        sliding_window: False lifts the window of the checkpoint's own attention, so that every token sees all others
            (GritLM, NV-Embed).
        hidden_layer: whose states are pooled: -1 the last layer's, after the final norm; -2 the layer's before it,
            without that norm (Pretended CoT, Knowledge Enhancement).
        pooled: the positions that may be pooled. "all": special tokens and prompt too. "after_prompt": what follows the
            special tokens at the start and the prompt (GritLM, Instructor, NV-Embed; include_prompt=False of
            sentence-transformers). "text_to_end": the last ``{text}`` and all that follows it (LLM2Vec, Echo-mistral).
            "text": the last ``{text}`` alone (zero-shot Echo). A prompt's length is that of its own tokens, apart from
            the text, as the reference implementations count it.
        kept_prompt_tokens: the last so many prompt tokens stay in the pool all the same (NV-Embed: 1, as its reference
            forgets to count the start token).
        pooling: how: "cls" the first of those positions, "last" the last of them, "mean", or "weighted_mean", where the
            i-th token of the input weighs i (SGPT).
        projections: folders of dense layers after the pooling, in order, inside the checkpoint.
        normalise: whether dense vectors have unit length.
        similarity: what the model was trained for. "dot" differs from "cosine" only when nothing is normalised.
        matryoshka_dims: the prefixes that the model was trained for, descending; empty: not trained for any.
        has_dense: whether the dense vectors were trained for similarity (a SPLADE checkpoint's were not).

        token_head: what every token's state goes through before the pooling: "latent_attention" (NV-Embed).
        router_weight: of a mixture of experts, how much the cosine of the last token's router probabilities counts
            beside that of the states (MoEE); 0: not at all.
        sparse_head: where term weights come from. "mlm_max": every token through the checkpoint's masked-language
            head, the maximum (SPLADE); "lm_max": the pooled positions through a causal model's head (Mistral-SPLADE);
            "next_token": the last position through it, for the text's own content words (PromptReps); "token_linear":
            one linear layer weighs each token's own id (BGE-M3, mGTE); "tuned": the head of a tuned model.
        sparse_activation: of a logit: log(1 + relu), that twice (OpenSearch v3), or relu.
        sparse_pooling: over the tokens; "sum" in SPLADE v1.
        sparse_query: "model": as documents; "binary": each token of the query weighs 1 (SPLADE-doc); "idf": its
            weight in the checkpoint's idf.json (OpenSearch). The last two never run the network.
        sparse_terms: keep the heaviest so many terms; 0: all.
        sparse_expansion: of "next_token", the most terms beside the text's own; 0: none.
        sparse_scale: weights are multiplied by this and rounded to integers (PromptReps: 100); 0: as they are.
        sparse_idf: whether the index must multiply the terms of a sparse query by its own inverse document frequencies
            (the "tuned" head ``neighbours``).
        sparse_unknown: whether a character that the vocabulary lacks (most Chinese ones, for an English model) is a
            sparse term of its own; the network reads the unknown token in its place all the same. Otherwise it is no
            term at all. Of the same head.
        multi_head: "token_linear": one vector a token, through a linear layer (BGE-M3).

        adapters: peft adapters merged into the weights in this order: folders, in the checkpoint or not, or hub ids
            (LLM2Vec).
        query_adapter, document_adapter: low-rank additions that differ between the sides (jina-embeddings-v3).
        backbone: the model type for transformers where config.json names a class of the checkpoint's own code.
        backbone_config: the key of config.json that holds the backbone's own settings ("text_config").
        weights_prefix: what precedes the backbone's parameter names in the files ("embedding_model.").

        max_tokens: the longest input of the model, special tokens included.
        query_tokens: the longest query, likewise; longer ones are cut. None: ``max_tokens``.
        window_tokens: the longest window of a document, special tokens included.
        passage_tokens: the most tokens of one passage.
        landmark: how several passages share a window; "none": they do not. "span_mean" pools each passage's tokens
            (late chunking), "blend" takes the mean of that vector and the one of the passage read alone, "end_token"
            closes each passage with the last token of ``append`` and takes its state.
        context_extension: how the model reads more tokens than it was trained for. ``max_tokens`` may then be as large
            as its ``target_tokens``; one vector for a whole document takes ``passage_tokens`` of that size too.
        context_documents: with how many documents of the collection each text is read (contextual document
            embeddings); 0: none.
    """

    name: str
    query_template: Template = "{text}"
    document_template: Template = "{title} {text}"
    empty_title: str = ""
    shot_template: str = ""
    default_task: str = WEB_SEARCH_TASK
    tasks: Tasks = ()
    default_document_task: str = ""
    cleanup: Cleanup = "none"
    separate_pieces: bool = False
    prepend: tuple[str, ...] | None = None
    append: tuple[str, ...] | None = None
    query_prepend: tuple[str, ...] | None = None
    query_append: tuple[str, ...] | None = None
    attention: Attention = "bidirectional"
    sliding_window: bool = True
    hidden_layer: int = -1
    pooled: Pooled = "all"
    kept_prompt_tokens: int = 0
    pooling: Pooling = "mean"
    projections: tuple[str, ...] = ()
    normalise: bool = True
    similarity: Similarity = "cosine"
    matryoshka_dims: tuple[int, ...] = ()
    has_dense: bool = True
    token_head: TokenHead = "none"
    router_weight: float = 0.0
    sparse_head: SparseHead = "none"
    sparse_activation: SparseActivation = "log1p"
    sparse_pooling: SparsePooling = "max"
    sparse_query: SparseQuery = "model"
    sparse_terms: int = 0
    sparse_expansion: int = 0
    sparse_scale: float = 0.0
    sparse_idf: bool = False
    sparse_unknown: bool = False
    multi_head: MultiHead = "none"
    adapters: tuple[str, ...] = ()
    query_adapter: str = ""
    document_adapter: str = ""
    backbone: str = ""
    backbone_config: str = ""
    weights_prefix: str = ""
    max_tokens: int = 512
    query_tokens: int | None = None
    window_tokens: int = 512
    passage_tokens: int = 512
    landmark: Landmark = "none"
    context_extension: ContextExtension | None = None
    context_documents: int = 0

    def __post_init__(self) -> None:
        """Check the fields, alone and against each other.

        Raises:
            InvalidRecipe: a field has a value that cannot be used.
        """
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InvalidRecipe(name, getattr(self, name), f"it must be one of {', '.join(choices)}")
        self._check_templates()
        self._check_sizes()
        if self.hidden_layer not in (-1, -2):
            raise InvalidRecipe("hidden_layer", self.hidden_layer, "it must be -1 or -2")
        if self.landmark in MEANS_OF_SPANS and self.pooling != "mean":
            raise InvalidRecipe("landmark", self.landmark, f"it needs mean pooling, not {self.pooling}")
        if self.landmark == "end_token" and self.pooling != "last":
            raise InvalidRecipe("landmark", self.landmark, f"end_token needs last-token pooling, not {self.pooling}")
        if self.landmark != "none" and self._reads_for_one_vector:
            raise InvalidRecipe("landmark", self.landmark, "this context_extension makes one vector of an input")
        if self.landmark != "none" and not self.text_comes_last:
            raise InvalidRecipe("landmark", self.landmark, "passages share windows only where the text comes last")

    def _check_templates(self) -> None:
        for field in ("query_template", "document_template"):
            templates = _several(getattr(self, field))
            if not templates or not all("{text}" in template for template in templates):
                raise InvalidRecipe(field, getattr(self, field), "it must contain {text}")

    def _check_sizes(self) -> None:
        if self.max_tokens < 8:
            raise InvalidRecipe("max_tokens", self.max_tokens, "it must be at least 8")
        if self.query_tokens is not None and not 8 <= self.query_tokens <= self.max_tokens:
            raise InvalidRecipe("query_tokens", self.query_tokens, f"it must be 8 to max_tokens = {self.max_tokens}")
        if not 8 <= self.window_tokens <= self.max_tokens:
            raise InvalidRecipe("window_tokens", self.window_tokens, f"it must be 8 to max_tokens = {self.max_tokens}")
        if not 1 <= self.passage_tokens <= self.window_tokens:
            raise InvalidRecipe("passage_tokens", self.passage_tokens, "it must be 1 to window_tokens")
        extension = self.context_extension
        if extension is not None and self.max_tokens > extension.target_tokens:
            limit = f"it must be at most context_extension.target_tokens = {extension.target_tokens}"
            raise InvalidRecipe("max_tokens", self.max_tokens, limit)
        for name in (
            "kept_prompt_tokens",
            "router_weight",
            "sparse_terms",
            "sparse_expansion",
            "sparse_scale",
            "context_documents",
        ):
            if getattr(self, name) < 0:
                raise InvalidRecipe(name, getattr(self, name), "it must not be negative")

    @property
    def query_templates(self) -> tuple[str, ...]:
        """The templates of a query: one input each."""
        return _several(self.query_template)

    @property
    def document_templates(self) -> tuple[str, ...]:
        """The templates of a document: one input each."""
        return _several(self.document_template)

    @property
    def shares_windows(self) -> bool:
        """Whether one window may hold several passages."""
        return self.landmark != "none" and self.passage_tokens < self.window_tokens

    @property
    def text_comes_last(self) -> bool:
        """Whether a document is one prefix and then its text as it is, so that its tokens can be cut into passages."""
        if self.cleanup != "none" or self.separate_pieces or self.pooled not in ("all", "after_prompt"):
            return False
        after = self.document_templates[0].partition("{text}")[2]
        return len(self.document_templates) == 1 and not after

    def instruction(self, task: str | None) -> str:
        """What the template says of a query's task, given its name, an instruction, or None: the default.

        Raises:
            InvalidInput: there is no task of this name.
        """
        return self.default_task if task is None else instruction_of(task, self.tasks)

    def takes_task(self, *, query: bool) -> bool:
        """Whether the templates of queries, or of documents, have a place for a task."""
        templates = self.query_templates if query else self.document_templates
        return any("{task}" in template for template in templates)

    def query_pieces(self, text: str, task: str | None, shots: Sequence[tuple[str, str]] = ()) -> list[list[Piece]]:
        """The filled query templates, in pieces.

        Args:
            text: the query.
            task: a name or an instruction; None: the recipe's default task.
            shots: examples as (query, document), in the order in which they are read.

        Raises:
            InvalidInput: there is no task of this name.
        """
        task = self.instruction(task)
        examples = "".join(
            fill(self.shot_template, {"task": task, "query": query, "document": document}) for query, document in shots
        )
        values = {"task": task, "shots": examples, "text": self._cleaned(text)}
        return [pieces(template, values) for template in self.query_templates]

    def document_pieces(self, title: str, text: str, task: str | None = None) -> list[list[Piece]]:
        """The filled document templates, in pieces."""
        task = self.default_document_task if task is None else task
        title = title.strip() or self.empty_title
        filled = []
        for template in self.document_templates:
            whole = text if "{title}" in template else f"{title} {text}".strip()
            values = {"task": task, "title": title, "text": self._cleaned(whole)}
            filled.append(pieces(template if title else _TITLE.sub("", template), values))
        return filled

    def query_text(self, text: str, task: str | None) -> str:
        """The query as the model reads it in the first template; ``task`` None means the recipe's default task."""
        return "".join(piece.text for piece in self.query_pieces(text, task)[0])

    def document_prefix(self, title: str, task: str | None = None) -> str:
        """What precedes a document's text in the first template: the prompt and the title."""
        task = self.default_document_task if task is None else task
        template = self.document_templates[0].partition("{text}")[0]
        title = title.strip() or self.empty_title
        if not title:
            return fill(_TITLE.sub("", template), {"task": task})
        if "{title}" not in template:
            template += "{title} "
        return fill(template, {"title": title, "task": task})

    def overlaid(self, table: Mapping[str, object]) -> Self:
        """This recipe with other values for the fields of a TOML or JSON table, whose arrays become tuples.

        ``max_tokens`` cannot grow, but to what the table's ``context_extension`` reaches, and nothing else is longer;
        windows hold one passage of at most ``DEFAULT_PASSAGE_TOKENS`` tokens unless the table says otherwise. Passages
        may share windows as far as the changed recipe allows it.

        Raises:
            InvalidRecipe: there is no such field, or its value cannot be used.
        """
        values = {name: _checked(name, value) for name, value in table.items() if name != "context_extension"}
        reach = self.max_tokens
        if "context_extension" in table:
            extension = ContextExtension.of(table["context_extension"], min(values.get("max_tokens", reach), reach))
            values["context_extension"], reach = extension, extension.target_tokens
            values.setdefault("max_tokens", reach)
        changed = replace(self, **{"landmark": "none", **values, **self._sizes(values, reach)})
        return changed if "landmark" in values else replace(changed, landmark=changed.fitting_landmark(self.landmark))

    def _sizes(self, values: Mapping[str, Any], reach: int) -> dict[str, int | None]:
        """The sizes that a table asks for, as far as inputs of ``reach`` tokens allow."""
        longest = min(values.get("max_tokens", self.max_tokens), reach)
        usual = DEFAULT_PASSAGE_TOKENS
        window = min(values.get("window_tokens", usual if "max_tokens" in values else self.window_tokens), longest)
        resized = not values.keys().isdisjoint(("max_tokens", "window_tokens"))
        passage = min(values.get("passage_tokens", usual if resized else self.passage_tokens), window)
        query = values.get("query_tokens", self.query_tokens)
        shortest = None if query is None else min(query, longest)
        return {"max_tokens": longest, "window_tokens": window, "passage_tokens": passage, "query_tokens": shortest}

    @property
    def _reads_for_one_vector(self) -> bool:
        """Whether the positions of a long input do not survive its context extension."""
        extension = self.context_extension
        return extension is not None and extension.method in ("parallel_windows", "extensible")

    def fitting_landmark(self, wanted: Landmark) -> Landmark:
        """How passages can share windows: "end_token" after a causal model's last token, else ``wanted`` or not at all."""
        if not self.text_comes_last or self._reads_for_one_vector:
            return "none"
        if self.pooling == "last" and self.attention == "causal":
            return "end_token"
        return wanted if wanted in MEANS_OF_SPANS and self.pooling == "mean" else "none"

    def _cleaned(self, text: str) -> str:
        """The text as it may stand in the template."""
        return quotable_sentence(text) if self.cleanup == "sentence" else text


def _several(template: Template) -> tuple[str, ...]:
    return (template,) if isinstance(template, str) else template


_ANNOTATIONS = {field.name: str(field.type) for field in fields(Recipe)}


def _checked(name: str, value: object) -> Any:  # noqa: ANN401 - the annotations of ``Recipe`` are checked at run time
    """A field's value from a table."""
    annotation = _ANNOTATIONS.get(name)
    if annotation is None:
        raise InvalidRecipe(name, value, f"there is no such field; there are {', '.join(_ANNOTATIONS)}")
    return tasks_of(value) if name == "tasks" else checked_value(name, annotation, value)
