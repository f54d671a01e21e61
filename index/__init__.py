"""Search over numpy arrays: dense vectors, learned sparse vectors and BM25, one immutable segment at a time."""
