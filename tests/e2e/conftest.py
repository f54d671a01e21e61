"""What several end-to-end tests start from."""

import pytest

from tests.support.commands import runner, write
from tests.unit.test_cli_readers import pdf_bytes


@pytest.fixture
def engine(tmp_path):
    """Runs a command on a data folder of the test's own."""
    return runner(tmp_path)


@pytest.fixture
def docs(tmp_path):
    """A folder of four documents, two files that fail, and some that are no documents."""
    return write(
        tmp_path / "docs",
        {
            "intro.md": "# Landmarks\n\nA landmark token closes each passage.\n",
            "guide/fusion.md": "# Fusion\n\nScores of several legs become one score.\n",
            "code/search.py": "def search(query):\n    return rank(query)\n",
            "rows.jsonl": '{"_id": "r1", "title": "Row one", "text": "harbour lights", "year": 2020}\n{"_id": \n',
            "broken.pdf": b"not a pdf",
            "sealed.pdf": pdf_bytes(["secret"], password="pw"),
            "blob.bin": b"\0\1",
            "weird.xyz": "unknown",
            "__init__.py": "",
        },
    )
