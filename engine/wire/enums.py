"""Which word of the domain is which enum of the wire?"""

from __future__ import annotations

from typing import Generic, TypeVar

from engine.errors import InvalidArgument
from engine.wire.scalars import Rejection

Word = TypeVar("Word", bound=str)
Number = TypeVar("Number", bound=int)


class Vocabulary(Generic[Word, Number]):
    """A two-way table between words and enum numbers. Zero is never in it: unspecified is refused."""

    def __init__(self, field: str, numbers: dict[Word, Number], reject: Rejection = InvalidArgument) -> None:
        self._field = field
        self._numbers = {str(word): number for word, number in numbers.items()}
        self._words = {int(number): word for word, number in numbers.items()}
        self._reject = reject

    def to_wire(self, word: str) -> Number:
        """The number of a word; raises InvalidArgument (or the table's own kind) for an unknown one."""
        number = self._numbers.get(word) if isinstance(word, str) else None
        if number is not None:
            return number
        raise self._reject(self._field, f"{word!r} is not one of {', '.join(self._numbers)}")

    def from_wire(self, number: int) -> Word:
        """The word of a number; raises InvalidArgument (or the table's own kind) for 0 and for unknown ones."""
        word = self._words.get(number)
        if word is None:
            said = "unspecified" if number == 0 else f"{number}, which this version does not know"
            raise self._reject(self._field, f"is {said}; expected one of {', '.join(self._numbers)}")
        return word
