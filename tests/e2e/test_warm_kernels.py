"""What `make setup` compiles is all that queries and writes need: no request waits for a compiler."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
USE = """
import sys
import numpy as np
from numba.core.dispatcher import Dispatcher
from engine import open_engine
from index.dense import FEW_ALLOWED, SMALL
from index.warm import warm_kernels

def compiled():
    modules = [module for name, module in sorted(sys.modules.items()) if name.startswith("index.")]
    kernels = {id(f): f for module in modules for f in vars(module).values() if isinstance(f, Dispatcher)}
    return {f.py_func.__qualname__: len(f.signatures) for f in kernels.values()}

warm_kernels()
before = compiled()
n = 2 * (FEW_ALLOWED + SMALL)
vectors = np.random.default_rng(0).standard_normal((n, 128)).astype(np.float32)
with open_engine(sys.argv[1], model=None) as engine:
    c = engine.create_collection("c", dim=128, sparse=True)
    answers = list(c.ingest(
        {"doc_id": str(i), "text": f"ship{i % 97} harbour caf\\u00e9", "vector": vectors[i], "metadata": {"n": i},
         "sparse": {i % 50: 1.0, 50 + i % 300: 0.5}}
        for i in range(n)
    ))
    def ask(**options):
        assert c.query("ship3 harbour", vector=vectors[5], sparse={3: 1.0, 7: 0.5}, **options).hits
    for _ in range(2):  # from the head, and from a sealed segment
        for mode in ("hybrid", "dense", "sparse", "bm25"):
            ask(mode=mode)
            for share in (0.05, 0.9):
                ask(mode=mode, filter=f"n < {int(share * n)}")
        ask(exact=True)
        ask(limit=200)
        c.optimize()
    c.delete([str(i) for i in range(0, n, 3)])
    c.update_metadata("1", {"n": 3})
    ask()
    ask(filter=f"n < {n - 5}")
    c.optimize()
    ask()
print({name: count for name, count in compiled().items() if count != before.get(name, 0)})
"""


def test_nothing_is_compiled_after_the_kernels_were_warmed(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path / "data")], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "{}"
