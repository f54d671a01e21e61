"""What does docs/models.md say? Written from the system files: ``engine models list --markdown > docs/models.md``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.systems import System

HEAD = """\
# Which embedding systems does Landmark know?

Written by `engine models list --markdown` from the files in `embedder/systems`; do not edit.

A system is a file: facts, the fields of a `Recipe` (`embedder/recipe.py`), and the numbers that its authors published.
No code of a checkpoint is run, weights are safetensors only. What `--model` takes:

| `--model` | means |
|---|---|
| `qwen3-embedding`, `qwen3-embedding-4b` | a system, or one of its checkpoints: fetched from the hub |
| `Qwen/Qwen3-Embedding-4B`, `./Qwen3-Embedding-4B` | a hub id or a folder; its name finds the system |
| `prompteol:./any-llm`, `ntk:intfloat/e5-mistral-7b-instruct` | any folder or hub id, used as that system does |
| `./mine.toml:./any-llm` | the same with a system file of your own |

A collection records the name as it was given, and opens its model by it. Files of your own in
`$XDG_CONFIG_HOME/landmark/systems` (`~/.config/landmark/systems`) are systems too; one of a packaged name replaces it:
so is a fact corrected that was wrong. A file that cannot be used is named in a warning, and nothing else suffers.

`engine models show NAME` prints a recipe, an example of what the model reads, and what breaks silently;
`engine models verify NAME [--folder PATH]` compares a checkpoint with the published numbers and exits with 1 if one is off.

```toml
[system]
name = "my-model"               # the file is my-model.toml
title = "My model"
family = "last token"
summary = "A decoder that we tuned."

[[checkpoint]]
id = "us/my-model"              # a folder named my-model is known by it, too

[recipe]                        # what is not named is as the checkpoint's own files say
query_template = "Instruct: {task}\\nQuery: {text}"
append = ["</s>"]
attention = "causal"
pooling = "last"
max_tokens = 4096

[[parity]]                      # what `engine models verify my-model` compares
checkpoint = "us/my-model"
queries = ["who sang?"]
documents = ["birds sang", "a cat slept"]
expected = [[0.71, 0.12]]
tolerance = 0.005
```

**Tasks.** A recipe whose queries have an instruction may know some by name: BEIR's data sets (`tasks = "e5"` in a recipe, the
words in `embedder/tasks.toml`), or a table of its own, `[recipe.tasks]`. `engine models show NAME` lists them.

```sh
engine query "is coffee healthy" --task nfcorpus             # a name,
engine query "sort a list" --task "Given a question, retrieve code that answers it"   # or an instruction
engine index ./papers --model qwen3-embedding-0.6b --task scidocs --collection papers # of queries that name none
engine eval ./scifact --model qwen3-embedding-0.6b --task scifact
```

A model that takes no instruction refuses a task, and so does a name that the recipe does not know.

**The real checkpoints were not at hand**, but all-MiniLM-L6-v2's. Every recipe is proved on tiny random models of the
architecture, against an independent computation: the test is named in the table. The published numbers wait in the files
for a machine that has the weights. *known* is the least known fact of a recipe: V read in a public source, L run here on
small random models, V2 read in a secondary source, M from memory. Scores of different benchmarks cannot be compared.
"""


def system_page(systems: Iterable[System]) -> str:
    """The page, with one table a family."""
    return HEAD + "".join(_families(systems))


def _families(systems: Iterable[System]) -> Iterator[str]:
    def family(system: System) -> str:
        return system.facts.family

    for name, members in groupby(sorted(systems, key=family), key=family):
        yield f"\n## {name[0].upper()}{name[1:]}\n\n"
        yield "| system | published score | proved by | known | not verified |\n|---|---|---|---|---|\n"
        yield from (_row(system) for system in members)


def _row(system: System) -> str:
    facts = system.facts
    name = f"[{system.name}](../embedder/systems/{system.name}.toml)"
    score = "" if facts.retrieval is None else f"{facts.retrieval} ({facts.benchmark})"
    path, _, test = facts.proof.partition("::")
    proof = f"[{test or path.rsplit('/', 1)[-1]}](../{path})" if path else ""
    cells = (name, score, proof, system.weakest_evidence or "", "; ".join(facts.not_verified))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
