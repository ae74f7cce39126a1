"""The numbers that `inspect` quotes, from the settings of results/what_decides.csv.

    python docs-src/measured.py    # writes imbalanced_regression/tools/measured.csv anew
"""

from __future__ import annotations

from pathlib import Path

from imbalanced_regression.tools import decides, measured

ROOT = Path(__file__).resolve().parents[1]
FILE = Path(measured.__file__).with_name(measured.FILE)


def text() -> str:
    """What the file should hold."""
    return measured.to_csv(measured.summarise(decides.read(ROOT / "results" / decides.FILE)))


if __name__ == "__main__":
    FILE.write_text(text())
    print(f"written: {FILE}")
