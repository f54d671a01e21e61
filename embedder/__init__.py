"""Text in, vectors out: the model, its recipe, and the scheduler in front of it.

Start at ``embedder.embedder.Embedder``. Importing this package loads no torch: ``model`` and ``heads`` are imported when
a model is loaded.
"""
