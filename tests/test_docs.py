"""`make docs`: the API's HTML builds without a warning, and holds every public name."""

from __future__ import annotations

import subprocess

from commands import ROOT, execute

import imbalanced_regression as library


def test_the_docs_build_without_a_warning(tmp_path):
    said = execute(["docs-src/make_docs.py", "--out", tmp_path / "docs"], ROOT)
    assert said == f"{tmp_path / 'docs' / 'index.html'}\n"
    page = (tmp_path / "docs" / "imbalanced_regression.html").read_text()
    assert all(f'id="{name}"' in page for name in library.__all__)
    engine = (tmp_path / "docs" / "imbalanced_regression" / "training" / "engine.html").read_text()
    assert '<h6 id="arguments">Arguments:</h6>' in engine
    assert "docs-src/make_docs.py" in subprocess.run(["make", "-n", "docs"], cwd=ROOT, capture_output=True, text=True).stdout
