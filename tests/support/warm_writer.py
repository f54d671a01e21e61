"""Imported by the fork server before its children: loads what a writer needs and compiles the kernels."""

import engine.collection  # noqa: F401 (loaded for the children)
from engine.schema import CollectionSchema
from index.analyzer import ANALYZER_VERSION
from index.warm import warm_kernels
from tests.support.crashing import DIM

SCHEMA = CollectionSchema(
    name="c",
    dim=DIM,
    coarse_dim=DIM,
    rotate=True,
    sparse=False,
    model=None,
    fingerprint=None,
    language="english",
    analyzer_version=ANALYZER_VERSION,
)

warm_kernels()
