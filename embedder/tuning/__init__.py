"""How does a model learn: from a user's own documents, pairs and graded pairs, into a tuned model's folder.

Training imports inference, never the other way round, so that a student and the embedder that serves it read the same
tokens and pool the same positions. Needs the extra ``tune`` (peft, sentence-transformers).
"""
