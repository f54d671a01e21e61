"""How does a kernel multiply short numbers at the speed of memory? Three operations that numba cannot say itself.

Each is a few lines of LLVM's own vector code. ``nibble_dot`` becomes one load of 32 bytes, for each half of their bits a mask
and a multiply-add, and for both another and an addition. The same loop in Python, compiled by numba, and the portable form
for processors without AVX2, widen everything to 32 bits first and reach a fraction of the speed.
"""

from __future__ import annotations

import itertools
import platform
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from index.arrays import Bytes, Codes

LINE = 64  # bytes of a cache line
LANES = 32  # bytes of a row of codes that are handled in one round; every row is padded to a multiple

_I8, _I16, _I32 = ir.IntType(8), ir.IntType(16), ir.IntType(32)
_BYTES, _SHORTS, _SUMS = ir.VectorType(_I8, LANES), ir.VectorType(_I16, LANES // 2), ir.VectorType(_I32, LANES // 4)


def dot_of_levels(multiply_add: Callable[[Any, Any], Any]) -> Callable[..., tuple[object, object]]:
    """What numba compiles ``nibble_dot`` to.

    Args:
        multiply_add: builder, two pairs of levels (uint8[LANES] below 16) and weights (int8[LANES]) → int32[LANES / 4] that
            add up to the dot products of both.
    """

    def typed(_context: object, codes: Any, start: Any, query: Any) -> tuple[object, object]:  # noqa: ANN401
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> object:  # noqa: ANN401
            rows = context.make_array(signature.args[0])(context, builder, values[0])
            asked = context.make_array(signature.args[2])(context, builder, values[2])
            width = builder.lshr(asked.nitems, ir.Constant(asked.nitems.type, 1))
            nothing, step = ir.Constant(width.type, 0), ir.Constant(width.type, LANES)
            total = cgutils.alloca_once_value(builder, _all(_SUMS, 0))
            with cgutils.for_range_slice(builder, nothing, width, step, inc=True) as (i, _):
                both = _load(builder, rows.data, builder.add(values[1], i))
                low = builder.and_(both, _all(_BYTES, 15)), _load(builder, asked.data, i)
                high = builder.lshr(both, _all(_BYTES, 4)), _load(builder, asked.data, builder.add(width, i))
                products = multiply_add(builder, (low, high))
                builder.store(builder.add(builder.load(total), products), total)
            kind, name = ir.FunctionType(_I32, [_SUMS]), f"llvm.vector.reduce.add.v{LANES // 4}i32"
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [builder.load(total)])

        return types.int32(codes, types.int64, query), generate

    return typed


def native_multiply_add(builder: Any, parts: Any) -> Any:  # noqa: ANN401
    """AVX2's own instructions: pairs of bytes, which of both parts add up to at most 15 * 127 * 4, then pairs of those."""
    bytes_kind, shorts_kind = ir.FunctionType(_SHORTS, [_BYTES, _BYTES]), ir.FunctionType(_SUMS, [_SHORTS, _SHORTS])
    of_bytes = cgutils.get_or_insert_function(builder.module, bytes_kind, "llvm.x86.avx2.pmadd.ub.sw")
    of_shorts = cgutils.get_or_insert_function(builder.module, shorts_kind, "llvm.x86.avx2.pmadd.wd")
    low, high = (builder.call(of_bytes, list(part)) for part in parts)
    return builder.call(of_shorts, [builder.add(low, high), _all(_SHORTS, 1)])


def portable_multiply_add(builder: Any, parts: Any) -> Any:  # noqa: ANN401
    """In LLVM's terms, quarter by quarter."""
    total = _all(_SUMS, 0)
    for part, first in itertools.product(parts, range(0, LANES, LANES // 4)):
        places = ir.Constant(_SUMS, list(range(first, first + LANES // 4)))
        left, right = (builder.shuffle_vector(each, each, places) for each in part)
        total = builder.add(total, builder.mul(builder.zext(left, _SUMS), builder.sext(right, _SUMS)))
    return total


def _all(kind: Any, value: int) -> Any:  # noqa: ANN401
    return ir.Constant(kind, [value] * kind.count)


def _load(builder: Any, data: Any, at: Any) -> Any:  # noqa: ANN401
    return builder.load(builder.bitcast(builder.gep(data, [at]), _BYTES.as_pointer()), align=1)


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


def has_avx2() -> bool:
    """Whether this processor has the instructions of ``native_multiply_add``."""
    return bool(binding.get_host_cpu_features().get("avx2", False))


def converts_halves() -> bool:
    """Whether this processor turns float16 into float32 by itself: every one with AVX2, and 64-bit ARM."""
    return platform.machine() in ("aarch64", "arm64") or bool(binding.get_host_cpu_features().get("f16c", False))


def fetches_ahead() -> bool:
    """Whether this processor fetches what a scan reads next by itself, so that asking for it only costs: AMD's Zen."""
    return binding.get_host_cpu_name().startswith("znver")


_nibble_dot: Any = intrinsic(dot_of_levels(native_multiply_add if has_avx2() else portable_multiply_add))
_prefetch_line: Any = intrinsic(_prefetch)
_float_of_half: Any = intrinsic(_extend)


@njit(nogil=True, cache=True, inline="always")  # a call would cost more than the work
def nibble_dot(codes: Bytes, start: int, query: Codes) -> int:
    """int32: the dot product of one row of 4-bit levels with a query.

    Args:
        codes: uint8, contiguous; byte i of a row's ``width`` bytes holds the levels i, in its lower bits, and width + i.
        start: the place of the row's first byte.
        query: int8[2 * width], width a multiple of ``LANES``.
    """
    return _nibble_dot(codes, start, query)


@njit(nogil=True, cache=True, inline="always")
def prefetch(array: NDArray[Any], start: int) -> None:
    """Begin to fetch the cache line of element ``start`` of a contiguous array; a place behind the end is harmless.

    Rows that lie far apart cost a page walk and a memory access each: asked for two rows ahead, they cost half.
    """
    _prefetch_line(array, start)


@njit(nogil=True, cache=True, inline="always")
def prefetch_row(array: NDArray[Any], start: int, size: int) -> None:
    """Begin to fetch the ``size`` elements of a contiguous array from ``start`` on, which may lie behind the end."""
    for i in range(0, size, LINE // array.itemsize):
        prefetch(array, start + i)


@njit(nogil=True, cache=True)
def float_of_half(half: np.uint16) -> np.float32:
    """The value of the 16 bits of a float16; only where ``converts_halves()``."""
    return _float_of_half(half)
