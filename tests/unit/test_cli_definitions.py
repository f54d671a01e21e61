"""Where definitions begin, for every language that has a grammar."""

import pytest

from cli.readers.definitions import GRAMMARS, definition_starts
from cli.readers.source_code import LANGUAGES


def marked(source):
    """Splits "¶" marks off a source: (the source, the offsets of the marks)."""
    parts = source.split("¶")
    text, offsets = parts[0], []
    for part in parts[1:]:
        offsets.append(len(text))
        text += part
    return text, tuple(offsets)


@pytest.mark.parametrize(
    ("language", "source"),
    [
        (
            "python",
            "import os\n\nX = 1  # one\n\n¶# about é\n@dec\ndef f():\n    def inner():\n        pass\n    return inner\n\n"
            "¶class C:\n    a = 1\n\n¶    @property\n    def m(self):\n        pass\n",
        ),
        (
            "javascript",
            "import a from 'a'\nconst x = 1\n\n¶/** doc */\nfunction f() {\n  return 1\n}\n\n"
            "¶class C {\n¶  m() {\n    return 2\n  }\n}\n"
            "¶export function g() {\n  return 3\n}\n",
        ),
        ("typescript", "¶interface A {\n  a: number\n}\n\n¶export class C {\n¶  m(): void {\n    f()\n  }\n}\n"),
        ("tsx", "¶function App() {\n  return <p>hello</p>\n}\n"),
        (
            "go",
            'package p\n\nimport (\n\t"a"\n)\n\n¶// F does.\nfunc F() {\n\tg()\n}\n\n¶type T struct {\n\tA int\n}\n',
        ),
        (
            "rust",
            "use a::b;\n\n¶/// doc\n#[test]\nfn f() {\n    g()\n}\n\n¶struct S {\n    a: u8,\n}\n\n"
            "¶impl S {\n¶    fn m(&self) {\n        h()\n    }\n}\n",
        ),
        ("java", "package p;\n\n¶/** doc */\nclass C {\n¶  void m() {\n    f();\n  }\n}\n"),
        ("c", "#include <a.h>\n\nint g(int);\n\n¶/* doc */\nint f(int a)\n{\n  return a;\n}\n"),
        ("cpp", "¶namespace n {\n¶class C {\n public:\n¶  int m() {\n    return 1;\n  }\n};\n}\n"),
    ],
)
def test_definitions_begin_with_what_stands_above_them(language, source):
    text, offsets = marked(source)
    assert definition_starts(text, language) == offsets


def test_language_without_a_grammar_has_no_boundaries():
    assert definition_starts("fun main() {\n}\n", "kotlin") == ()


def test_grammars_are_of_languages_that_the_reader_knows():
    assert set(GRAMMARS) <= set(LANGUAGES)


@pytest.mark.parametrize("language", sorted(GRAMMARS))
def test_broken_source_does_not_fail(language):
    for text in ("", "}}}} ((( def class fn", "\0", "é" * 1000, "(" * 5000):
        starts = definition_starts(text, language)
        assert list(starts) == sorted(starts)
