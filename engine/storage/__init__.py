"""LMDB is the truth: the store, its records and the files beside it."""
