"""The guide's page about what lies where: every file with the sentence that it opens with.

    python docs-src/house.py    # writes docs-src/pages/house.md anew
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs-src" / "pages" / "house.md"
BENCHMARKS = ("imdb-wiki-dir", "agedb-dir", "nyud2-dir", "sts-b-dir", "shhs-dir", "uci-dir")
WINGS = {
    "methods": "a file per paper", "training": "one loop", "faces": "what the two face benchmarks share",
    "tools": "for labels and finished runs",
}
OPENING = """# What lies where

A method is a file, a run is a plan, a benchmark is a folder. Every file with the sentence it opens with.

Imports go down only: folders use flags, tools, faces, training and methods; flags use choices; choices use builders,
which use methods; training uses the methods that are part of a step; methods use bins. `tests/test_house.py` reads
the syntax trees and holds these rules, and this page.
"""


def opening(path: Path) -> str:
    """The first paragraph of a file's docstring, on one line."""
    return " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0].split())


def section(title: str, folder: Path) -> list[str]:
    """A heading and a table of the folder's Python files; of a wing its `__init__.py` is left out."""
    files = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    rows = [f"| `{path.name}` | {opening(path)} |".replace("`|`", "`\\|`") for path in files]
    return ["", f"## {title}", "", "| file | what it is |", "|---|---|", *rows]


def page() -> str:
    """The text of house.md."""
    library = ROOT / "imbalanced_regression"
    lines = section("imbalanced_regression/", library)
    for wing, what in WINGS.items():
        lines += section(f"imbalanced_regression/{wing}/: {what}", library / wing)
    for folder in BENCHMARKS:
        lines += section(f"{folder}/", ROOT / folder)
    return OPENING + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
