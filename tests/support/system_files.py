"""Files of systems of a user's own, as text."""

from __future__ import annotations

from collections.abc import Sequence

PUBLISHED = ("me/my-encoder",)


def system_file(recipe: str, *, name: str = "mine", published: Sequence[str] = PUBLISHED, more: str = "") -> str:
    """A system with the lines ``recipe`` in its recipe, its checkpoints by id, and ``more`` tables after them."""
    facts = f'[system]\nname = "{name}"\ntitle = "{name.title()}"\nfamily = "encoder"\nsummary = "A test."\n'
    checkpoints = "".join(f'\n[[checkpoint]]\nid = "{each}"\n' for each in published)
    return f"{facts}{checkpoints}{more}\n[recipe]\n{recipe}"
