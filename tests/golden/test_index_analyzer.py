"""What the analyser makes of text may never drift: collections keep the hashes of version 1 on disk."""

import pytest

from index.analyzer import ANALYZER_VERSION, Analyzer, languages, term_hash

GOLDEN = [
    ("english", "The quick brown foxes are jumping over the lazy dogs.", "quick brown fox jump over lazi dog"),
    ("english", 'Running, runs: (ran) "runner"; generously!', "run run ran runner generous"),
    ("english", "don't John's O'Brien’s we'll I'm can't 'quoted'", "dont john obrien we i cant quot"),
    ("english", "café naïve Ångström Straße ﬁne ½ ① Ⅳ １２３", "cafe naiv angstrom strass fine 1 2 1 iv 123"),
    ("english", "getUserName HTTPServer2", "getusernam get user name httpserver2 http server 2"),
    ("english", "snake_case __init__ MAX_LEN x2y", "snake_case snake case init max_len max len x2y 2"),
    (
        "english",
        "iPhone PhD DNAs covid19 sha256 1990s",
        "iphon phone phd ph dnas covid19 covid 19 sha256 sha 256 1990s",
    ),
    ("english", "os.path.join(a, b) foo@bar.com x->y", "os path join b foo bar com x y"),
    ("english", "3.14 1,000,000.5 1,2,3 1,2345 v3.11.7 10.5km", "3.14 1000000.5 1 2 3 1 2345 3.11.7 10.5 km"),
    ("english", "U.S.A. e.g. C++ C# F# .NET", "usa eg c++ c# f# net"),
    ("english", "soft\u00adhyphen zero\u200bwidth", "softhyphen zerowidth"),
    ("english", "我喜欢吃苹果。猫 第3.5章", "我喜 喜欢 欢吃 吃苹 苹果 猫 第 3.5 章"),
    ("english", "東京タワー Python入門 ｶﾞｷﾞ", "東京 京タ タワ ワー python 入門 ガギ"),
    ("english", "สวัสดีครับ 한국어 검색", "สวั วัส สดี ดีค ครั รับ 한국 국어 검색"),
    ("english", "", ""),
    ("english", "— … !!! 🙂", ""),
    ("french", "L'eau de l’école, qu'il cherchait aujourd'hui", "eau de ecol qu il cherch aujourd hui"),
    ("german", "Die schönen Häuser für Größe", "die schon haus fur gross"),
    ("spanish", "Canción, años y corazón", "cancion anos y corazon"),
    ("russian", "Быстрые лисы бежали", "быстр лис бежа"),
    ("turkish", "İSTANBUL'da IŞIKLAR", "istanbul da ışık"),
    ("none", "Running Café snake_case", "running cafe snake_case snake case"),
]


@pytest.mark.parametrize(("language", "text", "terms"), GOLDEN)
def test_terms_are_those_of_version_1(language, text, terms):
    assert Analyzer(language).terms(text) == terms.split()


def test_term_hashes_are_those_of_version_1():
    assert ANALYZER_VERSION == 1
    assert [term_hash(term) for term in ("", "fox", "東京")] == HASHES


HASHES = [3244421341483603138, 13965643304042992335, 5087795124118550966]


def test_stop_words_stay_when_asked():
    assert Analyzer("english", stop_words=False).terms("The Who") == ["the", "who"]


def test_english_and_none_are_known_languages():
    assert {"english", "german", "none"} <= set(languages())
