"""The README's snippets run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
EXPECTED = [
    "[docs/runs.md, Runs › Resume] ",
    "tool: 3 degrees C in Oslo, Norway\nIt is cold in Oslo.",
    "may it? pay {'cents': 900}\nIt is paid.",
    "rate_limited True",
]


def test_every_snippet_has_an_expected_output():
    assert len(SNIPPETS) == len(EXPECTED)


@pytest.mark.parametrize("number", range(len(EXPECTED)))
def test_the_snippet_prints_what_it_should(number, tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "runs.md").write_text("# Runs\n\n## Resume\n\nAfter a crash a run resumes from its journal.\n")
    ended = subprocess.run(
        [sys.executable, "-c", SNIPPETS[number]], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    assert EXPECTED[number] in ended.stdout
