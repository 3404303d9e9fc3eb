"""No file of the agent has more than 300 lines, and none of its functions more than 45."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

AGENT = Path(__file__).parents[2] / "agent"
FILE_LINES, FUNCTION_LINES = 300, 45


def functions(text: str) -> Iterator[tuple[str, int]]:
    """Give the name and the lines of each function, its signature and docstring included."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_file_is_longer_than_300_lines() -> None:
    lengths = {str(file.relative_to(AGENT)): len(file.read_text().splitlines()) for file in AGENT.rglob("*.py")}
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES} == {}, "split them at a seam"


def test_no_function_is_longer_than_45_lines() -> None:
    found = [(str(f.relative_to(AGENT)), *each) for f in AGENT.rglob("*.py") for each in functions(f.read_text())]
    assert found
    assert [each for each in found if each[2] > FUNCTION_LINES] == []
