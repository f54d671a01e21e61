"""How does a collection get a model that was taught by its own documents?

    material  →  training  →  judging  →  migration

`engine.tuning.pipeline.tune` runs them. What a model learns and how is in `embedder.tuning`; here is what needs a
collection: examples from its documents, negatives from its index, and the proof that the result is better.
"""
