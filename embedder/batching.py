"""Which rows run together?

A batch holds at most a budget of tokens. Rows are taken in the order of their length, so that a padded batch has little
padding and a packed one is balanced; the caller puts the results back in order.
"""

from __future__ import annotations

from collections.abc import Sequence


def plan_batches(lengths: Sequence[int], max_tokens: int, *, padded: bool) -> list[list[int]]:
    """Group rows into batches, longest rows first.

    Args:
        lengths: tokens of each row, at least 1.
        max_tokens: the budget of a batch. A longer row is a batch of its own.
        padded: whether a batch costs rows times its longest row (a padded forward), or the sum of its rows.

    Returns:
        Lists of row numbers; every row is in exactly one. The order depends on the lengths alone: longest first, equal
        lengths as given. The longest come first so that too large a batch fails at once.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    batch: list[int] = []
    cost = 0
    for i in order:
        longest = lengths[batch[0]] if batch else lengths[i]
        grown = longest * (len(batch) + 1) if padded else cost + lengths[i]
        if batch and grown > max_tokens:
            batches.append(batch)
            batch, grown = [], lengths[i]
        batch.append(i)
        cost = grown
    if batch:
        batches.append(batch)
    return batches
