"""Which terms of a text does PromptReps keep?

Zhuang et al. 2024 let a language model say the next word after a prompt, and keep of its distribution only what the text says
itself: the tokens of its content words. A content word is a word of the lower-cased text that is neither an English stop
word nor a punctuation mark; it is tokenised on its own, without the space before it.

The authors cut words with NLTK. Here words are cut by the same rules in a few lines: at white space, brackets, quotes and
punctuation, contractions in two ("don't" is "do" and "n't"), with full stops, hyphens and slashes kept inside a word. What
NLTK does beyond that (its marks for quotes and dots, an abbreviation's own final dot) would be no terms of interest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# The English list of NLTK (nltk_data, corpora/stopwords, 179 words), which goes back to M. Porter's Snowball list.
_STOP_WORDS = """
i me my myself we our ours ourselves you you're you've you'll you'd your yours yourself yourselves he him his himself she
she's her hers herself it it's its itself they them their theirs themselves what which who whom this that that'll these those
am is are was were be been being have has had having do does did doing a an the and but if or because as until while of at by
for with about against between into through during before after above below to from up down in out on off over under again
further then once here there when where why how all any both each few more most other some such no nor not only own same so
than too very s t can will just don don't should should've now d ll m o re ve y ain aren aren't couldn couldn't didn didn't
doesn doesn't hadn hadn't hasn hasn't haven haven't isn isn't ma mightn mightn't mustn mustn't needn needn't shan shan't
shouldn shouldn't wasn wasn't weren weren't won won't wouldn wouldn't
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

# Runs between white space, brackets, quotes and the marks that end a word anywhere; "--" and "..." end one too.
_RUN = re.compile(r"""(?:(?!--|\.\.)[^\s;@#$%&?!*"()\[\]{}<>“”„«»…`])+""")
_SEPARATOR = re.compile(r"[:,](?!\d)")  # 12:30 and 1,000 stay whole
_EDGES = ".,:'’‘-/\\_=+~^|"
_CONTRACTION = re.compile(r"^(.+?)(n['’]t|['’](?:s|m|d|ll|re|ve))$")
_EXPANSION = re.compile(r"[a-z][a-z0-9]*")


def content_words(text: str) -> list[str]:
    """The distinct content words of a text, lower-cased, in the order of their first occurrence."""
    return list(dict.fromkeys(word for word in _words(text.lower()) if word not in STOP_WORDS))


def may_expand(term: str) -> bool:
    """Whether PromptReps lets a vocabulary entry stand for a text that does not say it: letters and digits only."""
    return _EXPANSION.fullmatch(term) is not None


def _words(text: str) -> Iterator[str]:
    for run in _RUN.findall(text):
        for piece in _SEPARATOR.split(run):
            word = piece.strip(_EDGES)
            match = _CONTRACTION.match(word)
            yield from (match.group(1), match.group(2).replace("’", "'")) if match else filter(None, (word,))
