"""Which files make a model, and what do they say about its use?

Finds the folder of a model (a path, or a Hugging Face id fetched or cached by ``huggingface_hub``), refuses pickled
weights, and derives a ``Recipe`` from config.json, the sentence-transformers files (modules.json, 1_Pooling/config.json,
sentence_bert_config.json, config_sentence_transformers.json) and what the catalogue knows of the system.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from embedder.errors import InvalidRecipe, ModelLoadFailed, ModelNotFound, UnsafeWeights
from embedder.recipe import DEFAULT_PASSAGE_TOKENS, Pooling, Recipe, SparseActivation

DEFAULT_MAX_TOKENS = 8192  # a cap on what config.json promises: longer inputs cost more than they bring
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_FETCHED = ["*.json", "*.txt", "*.model", "*.safetensors", "*.jinja"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model's folder: ``folder`` holds config.json and weights, ``root`` the sentence-transformers files."""

    name: str
    root: Path
    folder: Path
    config: dict[str, Any]

    @property
    def architectures(self) -> tuple[str, ...]:
        """The class names in config.json."""
        return tuple(self.config.get("architectures") or ())


def locate(model: str) -> Path:
    """The folder of a model given by path or by hub id.

    Raises:
        ModelNotFound: no such folder, and the hub (or its local cache) does not have it.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model:
        raise ModelNotFound(model, "there is no such folder")
    return _fetch(model)


def _fetch(model: str) -> Path:
    """Download a hub model, or find it in the cache. Only data files and safetensors are fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=_FETCHED))
    except HFValidationError as error:
        raise ModelNotFound(model, "this is neither a folder nor a well-formed Hugging Face id") from error
    except LocalEntryNotFoundError as error:
        raise ModelNotFound(model, "it is not in the local cache and the Hugging Face hub cannot be reached") from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelNotFound(model, f"the Hugging Face hub answered: {_first_line(error)}") from error


def open_checkpoint(name: str, root: Path) -> Checkpoint:
    """Read config.json and check that the weights are safetensors.

    Raises:
        ModelLoadFailed: config.json is missing or damaged.
        UnsafeWeights: there are only pickled weights, or none.
    """
    folder = root
    for module in _modules(root):
        if _module_kind(module) in ("Transformer", "MLMTransformer"):
            folder = _inside(root, str(module.get("path", "")))
            folder = folder if (folder / "config.json").is_file() else root
            break
    config = read_json(folder / "config.json")
    if config is None:
        raise ModelLoadFailed(name, f"{folder / 'config.json'} is missing")
    if not any(folder.glob("*.safetensors")):
        found = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
        raise UnsafeWeights(name, found)
    return Checkpoint(name=name, root=root, folder=folder, config=config)


def recipe_for(checkpoint: Checkpoint, *known: Mapping[str, object]) -> Recipe:
    """The recipe that the files describe, corrected by what is known of the system.

    Args:
        checkpoint: the files.
        known: tables of the recipe's fields, one over the other, as ``catalogue.refer`` finds them.

    Raises:
        InvalidRecipe: the files ask for a module or a pooling that is not supported.
    """
    if checkpoint.config.get("is_encoder_decoder") and not has_text_encoder(checkpoint.config.get("model_type")):
        raise InvalidRecipe("architectures", checkpoint.architectures, "this encoder-decoder has no text encoder")
    recipe = Recipe(name=checkpoint.name)
    recipe = _apply_architecture(recipe, checkpoint)
    recipe = _apply_modules(recipe, checkpoint)
    recipe = _apply_prompts(recipe, checkpoint.root)
    recipe = _with_lengths(recipe, _max_tokens(checkpoint))
    for table in known:
        recipe = recipe.overlaid(table)
    return recipe


def _apply_architecture(recipe: Recipe, checkpoint: Checkpoint) -> Recipe:
    """Decoders pool their last token and look back only; masked-language models give sparse vectors."""
    architecture = " ".join(checkpoint.architectures)
    config = checkpoint.config
    if "ForMaskedLM" in architecture and not (checkpoint.root / "1_Pooling").is_dir():
        return replace(recipe, sparse_head="mlm_max", has_dense=False)
    if "ForCausalLM" in architecture or is_decoder(config.get("model_type")):
        if config.get("is_causal") is False or config.get("use_bidirectional_attention") is True:
            return replace(recipe, attention="bidirectional", pooling="mean")
        return replace(recipe, attention="causal", pooling="last", landmark="end_token")
    return recipe


def is_decoder(model_type: str | None) -> bool:
    """Whether transformers knows a model type as a causal language model, even by its bare class ("Qwen3Model")."""
    from transformers.models.auto import modeling_auto

    causal, masked = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return model_type in causal and model_type not in masked


def has_text_encoder(model_type: str | None) -> bool:
    """Whether transformers has a class for the encoder alone of an encoder-decoder model of this type (T5)."""
    from transformers.models.auto import modeling_auto

    name = modeling_auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(model_type or "", "")
    return str(name).endswith("EncoderModel")


def _apply_modules(recipe: Recipe, checkpoint: Checkpoint) -> Recipe:
    """What modules.json of sentence-transformers says, module by module."""
    modules = _modules(checkpoint.root)
    if not modules:
        return recipe
    normalise, projections = False, []
    for module in modules:
        kind, path = _module_kind(module), str(module.get("path", ""))
        if kind == "Pooling":
            recipe = _apply_pooling(recipe, read_json(_inside(checkpoint.root, path) / "config.json") or {})
        elif kind == "Normalize":
            normalise = True
        elif kind == "Dense":
            projections.append(path)
        elif kind == "SpladePooling":
            recipe = _apply_splade(recipe, read_json(_inside(checkpoint.root, path) / "config.json") or {})
        elif kind == "SparseStaticEmbedding":
            recipe = replace(recipe, sparse_query="idf")
        elif kind not in ("Transformer", "MLMTransformer"):
            raise InvalidRecipe("modules.json", kind, "this sentence-transformers module is not supported")
    if recipe.sparse_head != "none":
        return recipe
    return replace(recipe, normalise=normalise, projections=tuple(projections))


def _apply_pooling(recipe: Recipe, config: dict[str, Any]) -> Recipe:
    """The pooling of 1_Pooling/config.json, in its old (one flag each) or new (pooling_mode) form."""
    flags = {
        "pooling_mode_cls_token": "cls",
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_lasttoken": "last",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
        "pooling_mode_weightedmean_tokens": "weightedmean",
    }
    names = {name: name for name in get_args(Pooling)} | {"lasttoken": "last", "weightedmean": "weighted_mean"}
    chosen: list[str] = [name for flag, name in flags.items() if config.get(flag)]
    mode = config.get("pooling_mode")
    if mode is not None:
        chosen = [mode] if isinstance(mode, str) else list(mode)
    if len(chosen) != 1 or chosen[0] not in names:
        raise InvalidRecipe("pooling", chosen, "exactly one of cls, mean, weightedmean and lasttoken is supported")
    pooled = "all" if config.get("include_prompt", True) else "after_prompt"
    return recipe.overlaid({"pooling": names[chosen[0]], "pooled": pooled})


def _apply_splade(recipe: Recipe, config: dict[str, Any]) -> Recipe:
    """SpladePooling of a sentence-transformers sparse encoder."""
    strategy, activation = config.get("pooling_strategy", "max"), config.get("activation_function", "relu")
    activations: dict[str, SparseActivation] = {"relu": "log1p", "log1p_relu": "log1p_log1p"}
    if strategy not in ("max", "sum") or activation not in activations:
        problem = f"known poolings: max, sum; known activations: {', '.join(activations)}"
        raise InvalidRecipe("SpladePooling", (strategy, activation), problem)
    return replace(
        recipe,
        sparse_head="mlm_max",
        sparse_pooling=strategy,
        sparse_activation=activations[activation],
        has_dense=False,
    )


def _apply_prompts(recipe: Recipe, root: Path) -> Recipe:
    """The prompts "query" and "document" (or "passage") of config_sentence_transformers.json."""
    prompts = (read_json(root / "config_sentence_transformers.json") or {}).get("prompts") or {}
    query = str(prompts.get("query") or "")
    document = str(prompts.get("document") or prompts.get("passage") or "")
    if query:
        recipe = replace(recipe, query_template=query + "{text}")
    if document:
        recipe = replace(recipe, document_template=document + "{title} {text}")
    return recipe


def _max_tokens(checkpoint: Checkpoint) -> int:
    """The longest input: what sentence-transformers says, else what config.json and the tokenizer allow."""
    said = (read_json(checkpoint.root / "sentence_bert_config.json") or {}).get("max_seq_length")
    config = checkpoint.config.get("text_config") or checkpoint.config
    positions = config.get("max_position_embeddings") or config.get("n_positions") or DEFAULT_MAX_TOKENS
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= 2  # these models number positions from pad_token_id + 1
    tokenizer = (read_json(checkpoint.folder / "tokenizer_config.json") or {}).get("model_max_length") or positions
    limit = min(int(positions), int(min(tokenizer, 10**9)), DEFAULT_MAX_TOKENS)
    return int(said) if said else limit


def _with_lengths(recipe: Recipe, max_tokens: int) -> Recipe:
    """One passage a window unless the caller asks for more: shared windows change vectors, so they are opted into."""
    length = min(max_tokens, DEFAULT_PASSAGE_TOKENS)
    return replace(recipe, max_tokens=max_tokens, window_tokens=length, passage_tokens=length)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None when there is no such file.

    Raises:
        ModelLoadFailed: the file is not a JSON object.
    """
    value = _read_value(path)
    if value is not None and not isinstance(value, dict):
        raise ModelLoadFailed(str(path.parent), f"{path.name} is not a JSON object")
    return value


def _read_value(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelLoadFailed(str(path.parent), f"{path.name} cannot be read: {_first_line(error)}") from error


def _modules(root: Path) -> list[dict[str, Any]]:
    """The entries of modules.json in order, and of the routes of a Router; empty for a plain transformers folder."""
    value = _read_value(root / "modules.json")
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ModelLoadFailed(str(root), "modules.json is not a list of objects")
    return [
        part for module in value for part in (_routes(root, module) if _module_kind(module) == "Router" else [module])
    ]


def _routes(root: Path, module: dict[str, Any]) -> list[dict[str, Any]]:
    """The modules behind a Router, which treats queries and documents differently (inference-free sparse encoders)."""
    path = str(module.get("path", ""))
    config = read_json(_inside(root, path) / "router_config.json") or {}
    try:
        names = [*config["structure"]["document"], *config["structure"]["query"]]
        return [{"path": "/".join(filter(None, (path, name))), "type": config["types"][name]} for name in names]
    except (KeyError, TypeError) as error:
        raise ModelLoadFailed(
            str(root), f"router_config.json names no modules for queries and documents: {error}"
        ) from error


def _module_kind(module: dict[str, Any]) -> str:
    """The class name at the end of a module's dotted type."""
    return str(module.get("type", "")).rsplit(".", 1)[-1]


def _inside(root: Path, relative: str) -> Path:
    """A folder inside the checkpoint; a path that leads out of it is refused."""
    path = (root / relative).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ModelLoadFailed(str(root), f"modules.json names {relative!r}, which is outside the folder")
    return path


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
