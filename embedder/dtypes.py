"""In which numbers are a network's weights held?

"float32", "bfloat16" and "float16" are also what it computes in. The quantised ones hold the weights of the network's linear
layers alone: "int8" in a quarter of the bytes, "float8" likewise on GPUs that have it. The rest of the network computes in
float32 on a CPU and in bfloat16 on a GPU (`embedder.quantisation`).
"""

from __future__ import annotations

from typing import Literal, TypeGuard, get_args

from embedder.errors import InvalidInput

Dtype = Literal["float32", "bfloat16", "float16", "int8", "float8"]
Quantised = Literal["int8", "float8"]

DTYPES: tuple[Dtype, ...] = get_args(Dtype)


def check_dtype(dtype: str | None) -> Dtype:
    """A dtype that was asked for; None is float32.

    Raises:
        InvalidInput: it is unknown.
    """
    if dtype is None:
        return "float32"
    if dtype not in DTYPES:
        raise InvalidInput("dtype", dtype, f"it must be one of {', '.join(DTYPES)}")
    return dtype


def is_quantised(dtype: Dtype) -> TypeGuard[Quantised]:
    """Whether only the linear layers' weights are held in this dtype."""
    return dtype in get_args(Quantised)
