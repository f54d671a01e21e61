"""How is source code read?

As it is, with passages that prefer to begin at definitions; the title is the file's path, because a module's name says
what it is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from cli.readers.decoding import read_text
from cli.readers.definitions import definition_starts
from cli.readers.reader import ReadItem, SourceFile, whole_file

LANGUAGES = {
    "python": ".py .pyi .pyw",
    "javascript": ".js .mjs .cjs .jsx",
    "typescript": ".ts .mts .cts",
    "tsx": ".tsx",
    "go": ".go",
    "rust": ".rs",
    "java": ".java",
    "c": ".c .h",
    "cpp": ".cc .cpp .cxx .hpp .hh .hxx .cu .cuh",
    "csharp": ".cs",
    "kotlin": ".kt .kts",
    "swift": ".swift",
    "scala": ".scala",
    "ruby": ".rb",
    "php": ".php",
    "perl": ".pl .pm",
    "lua": ".lua",
    "r": ".r",
    "julia": ".jl",
    "haskell": ".hs",
    "ocaml": ".ml .mli",
    "fsharp": ".fs",
    "elixir": ".ex .exs",
    "erlang": ".erl",
    "clojure": ".clj .cljs",
    "dart": ".dart",
    "zig": ".zig",
    "nim": ".nim",
    "fortran": ".f90 .f95",
    "shell": ".sh .bash .zsh .fish",
    "powershell": ".ps1",
    "sql": ".sql",
    "protobuf": ".proto",
    "graphql": ".graphql .gql",
    "css": ".css .scss .sass .less",
    "vue": ".vue",
    "svelte": ".svelte",
    "terraform": ".tf",
    "cmake": ".cmake",
    "groovy": ".groovy .gradle",
    "objective-c": ".m .mm",
    "assembly": ".asm .s",
    "vim": ".vim",
    "lisp": ".lisp .el .scm",
}
FILE_NAMES = {
    "makefile": "make",
    "gnumakefile": "make",
    "dockerfile": "dockerfile",
    "containerfile": "dockerfile",
    "jenkinsfile": "groovy",
    "rakefile": "ruby",
    "gemfile": "ruby",
    "cmakelists.txt": "cmake",
    "justfile": "just",
}
LANGUAGE_OF = {extension: language for language, extensions in LANGUAGES.items() for extension in extensions.split()}


def read(file: SourceFile) -> Iterator[ReadItem]:
    """Yields the file as one document, with ``language`` in its metadata."""
    name = PurePosixPath(file.name)
    language = FILE_NAMES.get(name.name.lower()) or LANGUAGE_OF.get(name.suffix.lower(), "text")
    text = read_text(file)
    yield whole_file(file, text, file.name, {"language": language}, definition_starts(text, language))
