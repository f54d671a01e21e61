"""How does text become terms? Words are found, normalised and stemmed; scripts without spaces give bigrams.

Version 1, which a collection keeps for ever (golden tests pin it):

- White space separates chunks; no term crosses it. Within a chunk, a word is a run of letters, marks, digits and "_".
- A word is NFKC-normalised and lowercased; invisible format characters are dropped.
- Apostrophes: English drops 's, 're, 'll, 've, 'd and 'm, and joins what is left (don't → dont, O'Brien → obrien).
  Other languages split there, and drop a single elided letter (l'eau → eau).
- Accents are removed where readers leave them out: before stemming in English and "none", after it in French, Spanish,
  Portuguese, Italian and Catalan. Elsewhere they tell words apart and stay.
- Snowball stems every word without digits and "_". English drops Lucene's 33 stop words (a switch); in other languages
  idf makes them weightless.
- Identifiers give the whole and its parts: getUserName → getusernam, get, user, name; HTTPServer2 → httpserver2, http,
  server, 2; snake_case → snake_case, snake, case. Parts of a single letter are dropped.
- Numbers keep inner points (3.14, v3.11.7 → 3.11.7) and lose commas between groups of three (1,000 → 1000). Letters with
  points are joined (U.S.A. → usa); C++, C# and F# keep their signs.
- Han, Kana, Hangul, Thai, Lao, Khmer and Myanmar runs give bigrams of user-perceived characters; a lone one stands alone.
- A term is stored as the 64-bit XXH3 hash of its UTF-8 bytes.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import pairwise

import numpy as np
import regex
import Stemmer
import xxhash

from index.arrays import Mask
from index.chunk_cache import ChunkCache
from index.errors import UnknownLanguage
from index.kernels import count_terms
from index.sparse_rows import SparseRows

ANALYZER_VERSION = 1
CHUNKS = 1 << 14  # whose terms ``terms`` remembers
MAX_STEMMED_WORD = 64  # characters; longer ones are data, not words: neither stemmed nor split

# Lucene's EnglishAnalyzer.ENGLISH_STOP_WORDS_SET, Apache-2.0.
_STOP_WORDS = """a an and are as at be but by for if in into is it no not of on or such that the their then there these
they this to was will with"""
ENGLISH_STOP_WORDS = frozenset(_STOP_WORDS.split())
FOLD_BEFORE_STEMMING = frozenset({"english", "none", "porter"})
FOLD_AFTER_STEMMING = frozenset({"french", "spanish", "portuguese", "italian", "catalan"})

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー々〆ﾞﾟ"
_WORD = rf"[\p{{L}}\p{{M}}\p{{N}}\p{{Cf}}_--[{_UNSPACED}]]"
_TOKEN = regex.compile(
    rf"(?V1)(?P<run>[{_UNSPACED}][{_UNSPACED}\p{{M}}]*)"
    r"|(?<![\p{L}\p{M}\p{N}_])(?:(?P<sign>[cC]\+\+|[cCfF]\#)(?![\p{L}\p{N}])|(?P<letters>(?:\p{L}\.){2,}(?:\p{L}(?![\p{L}\p{N}]))?))"
    r"|(?:(?<![\p{L}\p{M}\p{N}_])[vV])?(?P<number>\p{Nd}{1,3}(?:,\p{Nd}{3})+(?![\p{Nd},])(?:\.\p{Nd}+)*|\p{Nd}+(?:\.\p{Nd}+)+)"
    rf"|(?P<word>{_WORD}+(?:['’ʼ＇]{_WORD}+)*)"
)
_APOSTROPHE = regex.compile(r"['’ʼ＇]")
_ENGLISH_SUFFIX = regex.compile(r"(?i)['’ʼ＇](?:s|re|ll|ve|d|m)$")
_PART = regex.compile(r"\p{Lu}+(?!\p{Ll})|\p{Lu}?[\p{Ll}\p{Lo}\p{Lt}\p{Lm}\p{M}]+|\p{N}+")
_COMPOUND = regex.compile(r"(?V1)[\p{L}\p{N}]_+[\p{L}\p{N}]|\p{Ll}\p{Lu}|\p{Lu}\p{Lu}\p{Ll}|\p{L}\p{N}")
_ACRONYM_PLURAL = regex.compile(r"\p{Lu}{2,}s")
_INVISIBLE = regex.compile(r"\p{Cf}+")
_LATIN_MARKS = regex.compile(r"(?<=\p{Latin})\p{Mn}+")
_NOT_STEMMED = regex.compile(r"[\p{N}_]")
_PIECE = regex.compile(r"[\p{L}\p{M}\p{N}_]+")
_CHARACTER = regex.compile(r"\X")
_SEPARATOR = regex.compile(rf"(?V1)[^\p{{L}}\p{{M}}\p{{N}}\p{{Cf}}{_UNSPACED}_.,'’ʼ＇+\#]")  # what _TOKEN never holds
_PUNCTUATION = ".,;:!?\"'()[]{}*`<>«»“”‘’"

Span = tuple[int, int, str]


def term_hash(term: str) -> int:
    """The number that stands for a term in an index: XXH3-64 of its UTF-8 bytes, the same for ever."""
    return xxhash.xxh3_64_intdigest(term.encode("utf-8", "surrogatepass"))


def languages() -> tuple[str, ...]:
    """What ``Analyzer`` takes: the Snowball algorithms and "none", which does not stem."""
    return (*sorted(Stemmer.algorithms()), "none")


@cache
def _separators() -> Mask:
    """bool[65536]: by code point, the characters that no term holds and no pattern looks at."""
    table = np.zeros(1 << 16, np.bool_)
    table[[match.start() for match in _SEPARATOR.finditer("".join(map(chr, range(table.size))))]] = True
    return table


class Analyzer:
    """Turns text into terms for one language; safe to share between threads.

    Attributes:
        language: as given.
        stop_words: whether English stop words are dropped.
    """

    def __init__(self, language: str = "english", *, stop_words: bool = True) -> None:
        """Prepare the stemmer.

        Raises:
            UnknownLanguage: ``language`` is neither a Snowball algorithm nor "none".
        """
        known = languages()
        if language not in known:
            raise UnknownLanguage(language, known)
        self.language = language
        self.stop_words = stop_words
        self._dropped = ENGLISH_STOP_WORDS if stop_words and language in ("english", "porter") else frozenset()
        self._english = language in FOLD_BEFORE_STEMMING
        self._stemmers = threading.local()  # PyStemmer objects are not thread-safe: one a thread
        self._chunks = ChunkCache(self._chunk_hashes, _separators(), fold=language != "turkish")
        self._analysed = lru_cache(CHUNKS)(self._analyse)

    def terms(self, text: str) -> list[str]:
        """The terms of ``text``, in order, repeats included. Words asked for lately, as queries repeat them, are remembered."""
        return [
            term
            for chunk in text.split()
            for _, _, term in (self._analysed(chunk) if len(chunk) <= MAX_STEMMED_WORD else self._analyse(chunk))
        ]

    def spans(self, text: str) -> list[Span]:
        """As ``terms``, each with the characters text[start:end] that it comes from.

        Spans come in the order of ``terms``; the parts of an identifier lie within its own span.
        """
        found: list[Span] = []
        end = 0
        for chunk in text.split():
            start = text.index(chunk, end)
            end = start + len(chunk)
            found.extend((start + left, start + right, term) for left, right, term in self._analyse(chunk))
        return found

    def count(self, texts: Sequence[str]) -> SparseRows:
        """How often each term occurs in each text: one row a text, terms as ``term_hash``.

        Chunks seen before are answered from a bounded cache, so a thread does tens of thousands of passages a second.
        """
        return SparseRows(*count_terms(*self._chunks.terms(texts)))

    def _chunk_hashes(self, chunk: str) -> list[int]:
        """The hashes of a chunk's terms."""
        return [term_hash(term) for _, _, term in self._analyse(chunk)]

    def _analyse(self, chunk: str) -> list[Span]:
        """The terms of a chunk without white space, with their places in it."""
        if chunk.isascii():
            core = chunk.strip(_PUNCTUATION)
            if core.isalpha() and (core.islower() or core[1:].islower()):  # nearly every word of English prose
                term = self._term(self._lower(core))
                start = chunk.index(core)
                return [(start, start + len(core), term)] if term else []
        found: list[Span] = []
        for match in _TOKEN.finditer(chunk):
            start, end = match.span()
            if match.lastgroup == "number":
                start = match.start("number")  # the v of v1.2.3 is left out
                found.append((start, end, unicodedata.normalize("NFKC", match["number"]).replace(",", "")))
            elif match.lastgroup == "run":
                found.extend(_bigrams(match.group(), start))
            elif match.lastgroup == "sign":
                found.append((start, end, match.group().lower()))
            elif match.lastgroup == "letters":
                joined = self._normalise(match.group().replace(".", ""))
                found.extend((start, end, self._term(piece)) for piece in joined)
            else:
                found.extend(self._words(match.group(), start))
        return found

    def _words(self, word: str, start: int) -> Iterator[Span]:
        """The terms of a word that may hold apostrophes."""
        if self._english:
            yield from self._identifier(_ENGLISH_SUFFIX.sub("", word), start)
            return
        pieces = _APOSTROPHE.split(word)
        for place, piece in enumerate(pieces):
            if len(piece) > 1 or place == len(pieces) - 1:
                yield from self._identifier(piece, start)
            start += len(piece) + 1

    def _identifier(self, word: str, start: int) -> Iterator[Span]:
        """The term of a word, then those of its parts when it is written as an identifier."""
        core = word.strip("_")
        start += len(word) - len(word.lstrip("_"))
        end = start + len(core)
        for piece in self._normalise(core):
            term = self._term(piece)
            if term:
                yield start, end, term
        if len(core) > MAX_STEMMED_WORD or not _COMPOUND.search(core) or _ACRONYM_PLURAL.fullmatch(core):
            return
        parts = list(_PART.finditer(core))
        if len(parts) < 2:
            return
        for part in parts:
            if len(part.group()) == 1 and not part.group().isnumeric():
                continue
            for piece in self._normalise(part.group()):
                term = self._term(piece)
                if term:
                    yield start + part.start(), start + part.end(), term

    def _normalise(self, word: str) -> list[str]:
        """The word in lower case, NFKC; several pieces when its normal form holds separators (½ → 1, 2)."""
        if word.isascii():
            return [self._lower(word.replace("'", ""))] if word else []
        word = _INVISIBLE.sub("", _APOSTROPHE.sub("", unicodedata.normalize("NFKC", word)))
        word = self._lower(word)
        if self._english:
            word = _without_accents(word)
        pieces: list[str] = _PIECE.findall(word)
        return pieces

    def _lower(self, word: str) -> str:
        """Lower case by the language's rules."""
        if self.language == "turkish":
            word = word.replace("İ", "i").replace("I", "ı")
        return word.lower().replace("i\u0307", "i")  # lower() of a dotted capital I leaves a combining dot

    def _term(self, word: str) -> str:
        """The stem of a normalised word; empty when it is a stop word."""
        if word in self._dropped:
            return ""
        if self.language == "none" or len(word) > MAX_STEMMED_WORD or _NOT_STEMMED.search(word):
            return word
        stemmer = getattr(self._stemmers, "own", None)
        if stemmer is None:
            stemmer = self._stemmers.own = Stemmer.Stemmer(self.language, 0)
        stem = str(stemmer.stemWord(word))
        return _without_accents(stem) if self.language in FOLD_AFTER_STEMMING and not stem.isascii() else stem


def _bigrams(run: str, start: int) -> Iterator[Span]:
    """Overlapping pairs of characters of a run of script without spaces, or its only character."""
    normal = unicodedata.normalize("NFKC", run)
    if len(normal) != len(run):  # half-width kana with voice marks and the like: the places cannot be told apart
        yield from ((start, start + len(run), term) for _, _, term in _bigrams(normal, 0))
        return
    characters = [(match.start(), match.end()) for match in _CHARACTER.finditer(normal)]
    pairs = pairwise(characters) if len(characters) > 1 else [(characters[0], characters[0])]
    for (left, _), (_, right) in pairs:
        yield start + left, start + right, normal[left:right]


def _without_accents(word: str) -> str:
    """The word with the marks on Latin letters removed and ß written out (é → e, ß → ss, ø stays)."""
    bare = _LATIN_MARKS.sub("", unicodedata.normalize("NFD", word)).replace("ß", "ss")
    return unicodedata.normalize("NFC", bare)
