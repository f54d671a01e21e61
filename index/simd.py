"""How does a kernel multiply short numbers at the speed of memory? Three operations that numba cannot say itself.

Each is a few lines of LLVM's own vector code, portable over processors. ``byte_dot`` and ``byte_distance`` become one widening
load, one multiply-add of 16-bit pairs and one addition for 16 codes; the same loops in Python, compiled by numba, widen to
32 bits first and reach a third of the speed.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from index.arrays import Codes, Shorts

LANES = 16  # 16-bit numbers multiplied by one instruction where vectors have 256 bits
WIDTH = 2 * LANES  # codes handled in one round; every row of codes is padded to a multiple

_I8, _I16, _I32 = ir.IntType(8), ir.IntType(16), ir.IntType(32)
_SHORTS, _SUMS = ir.VectorType(_I16, LANES), ir.VectorType(_I32, LANES)


def _sum_over_row(term: Callable[[Any, Any, Any], Any]) -> Callable[..., object]:
    """An intrinsic: int32, the sum of ``term(builder, codes int16[LANES], query int16[LANES])`` over one row of codes.

    Its arguments: contiguous int8 codes, the place of the row's first code, int16[width] with a multiple of WIDTH.
    """

    def typed(_context: object, codes: Any, start: Any, query: Any) -> tuple[object, object]:  # noqa: ANN401
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> object:  # noqa: ANN401
            rows = context.make_array(signature.args[0])(context, builder, values[0])
            asked = context.make_array(signature.args[2])(context, builder, values[2])
            size = asked.nitems
            sums = [cgutils.alloca_once_value(builder, ir.Constant(_SUMS, [0] * LANES)) for _ in range(2)]
            step = ir.Constant(size.type, WIDTH)
            with cgutils.for_range_slice(builder, ir.Constant(size.type, 0), size, step, inc=True) as (i, _):
                for half, total in enumerate(sums):  # two sums: one addition need not wait for the other
                    at = builder.add(i, ir.Constant(size.type, half * LANES))
                    packed = _load(builder, rows.data, builder.add(values[1], at), ir.VectorType(_I8, LANES), 1)
                    part = term(builder, builder.sext(packed, _SHORTS), _load(builder, asked.data, at, _SHORTS, 2))
                    builder.store(builder.add(builder.load(total), part), total)
            total = builder.add(builder.load(sums[0]), builder.load(sums[1]))
            reduce = ir.FunctionType(_I32, [_SUMS])
            add_lanes = cgutils.get_or_insert_function(builder.module, reduce, f"llvm.vector.reduce.add.v{LANES}i32")
            return builder.call(add_lanes, [total])

        return types.int32(codes, types.int64, query), generate

    return typed


def _load(builder: Any, data: Any, at: Any, kind: Any, align: int) -> Any:  # noqa: ANN401
    return builder.load(builder.bitcast(builder.gep(data, [at]), kind.as_pointer()), align=align)


def _product(builder: Any, codes: Any, query: Any) -> Any:  # noqa: ANN401
    return builder.mul(builder.sext(codes, _SUMS), builder.sext(query, _SUMS))


def _square(builder: Any, codes: Any, query: Any) -> Any:  # noqa: ANN401
    difference = builder.sext(builder.sub(codes, query), _SUMS)
    return builder.mul(difference, difference)


def _prefetch(_context: object, array: Any, start: Any) -> tuple[object, object]:  # noqa: ANN401
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> object:  # noqa: ANN401
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        address = builder.bitcast(builder.gep(data, [values[1]]), _I8.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [address.type, _I32, _I32, _I32])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, keep, is_data = (ir.Constant(_I32, flag) for flag in (0, 3, 1))
        builder.call(hint, [address, read, keep, is_data])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


def _extend(_context: object, _bits: object) -> tuple[object, object]:
    def generate(_target: Any, builder: Any, _signature: object, values: Any) -> object:  # noqa: ANN401
        return builder.fpext(builder.bitcast(values[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), generate


def converts_halves() -> bool:
    """Whether this processor turns float16 into float32 by itself: every one with AVX2, and 64-bit ARM."""
    return platform.machine() in ("aarch64", "arm64") or bool(binding.get_host_cpu_features().get("f16c", False))


_byte_dot: Any = intrinsic(_sum_over_row(_product))
_byte_distance: Any = intrinsic(_sum_over_row(_square))
_prefetch_line: Any = intrinsic(_prefetch)
_float_of_half: Any = intrinsic(_extend)


@njit(nogil=True, cache=True)
def byte_dot(codes: Codes, start: int, query: Shorts) -> int:
    """int32: the dot product of the row of codes (int8, contiguous) that begins at ``start`` with the query, int16[width]."""
    return _byte_dot(codes, start, query)


@njit(nogil=True, cache=True)
def byte_distance(codes: Codes, start: int, query: Shorts) -> int:
    """int32: the squared Euclidean distance of the row of codes that begins at ``start`` from the query."""
    return _byte_distance(codes, start, query)


@njit(nogil=True, cache=True)
def prefetch(array: Codes, start: int) -> None:
    """Begin to fetch the cache line of element ``start`` of a contiguous array."""
    _prefetch_line(array, start)


@njit(nogil=True, cache=True)
def float_of_half(half: np.uint16) -> np.float32:
    """The value of the 16 bits of a float16; only where ``converts_halves()``."""
    return _float_of_half(half)
