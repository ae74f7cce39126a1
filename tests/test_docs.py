"""`make docs`: the guide and the API build without a warning, and each Python block of the guide runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import torch
from commands import ROOT, execute

import imbalanced_regression as library
from imbalanced_regression import choices

GUIDE = ROOT / "docs-src" / "pages"
PAGES = sorted(GUIDE.rglob("*.md"))
METHODS = sorted((GUIDE / "methods").glob("*.md"))
SECTIONS = ("Idea", "Formula", "Call", "When it fails", "Cost", "Presets", "Source")


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def test_the_docs_build_without_a_warning(tmp_path):
    said = execute(["docs-src/make_docs.py", "--out", tmp_path / "docs"], ROOT)
    assert said == f"{tmp_path / 'docs' / 'index.html'}\n"
    page = (tmp_path / "docs" / "imbalanced_regression.html").read_text()
    assert all(f'id="{name}"' in page for name in library.__all__)
    assert 'href="pages/index.html"' in page
    engine = (tmp_path / "docs" / "imbalanced_regression" / "training" / "engine.html").read_text()
    assert '<h6 id="arguments">Arguments:</h6>' in engine
    assert 'href="../../pages/index.html"' in engine
    assert "docs-src/make_docs.py" in subprocess.run(["make", "-n", "docs"], cwd=ROOT, capture_output=True, text=True).stdout

    built = {path.relative_to(tmp_path / "docs" / "pages").with_suffix(".md") for path in tmp_path.rglob("pages/**/*.html")}
    assert built == {path.relative_to(GUIDE) for path in PAGES}
    lds = (tmp_path / "docs" / "pages" / "methods" / "lds.html").read_text()
    assert '<a href="../../imbalanced_regression.html#lds_weights"><code>lds_weights</code></a>' in lds
    assert lds.count('fill="currentColor"') == 2  # its formulas
    assert "<figure><svg" in lds
    assert 'class="code"' in lds
    for path in tmp_path.rglob("pages/**/*.html"):
        text = path.read_text()
        assert "HELD" not in text, path
        assert "```" not in text, path
        assert not re.findall(r'(?:src|rel="stylesheet" href)="(?:https?:)?//', text), path  # it is read offline


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.stem)
def test_the_python_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": page.stem}
    with torch.random.fork_rng():
        for number, block in enumerate(python_blocks(page)):
            exec(compile(block, f"{page.name}, block {number}", "exec"), names)


@pytest.mark.parametrize("page", METHODS, ids=lambda page: page.stem)
def test_a_method_page_has_every_section_and_runs_something(page):
    assert tuple(re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)) == SECTIONS
    assert "```math" in page.read_text()
    assert python_blocks(page)
    assert f"methods/{page.name}" in (GUIDE / "index.md").read_text()


def test_every_public_name_is_in_the_guide():
    text = "".join(page.read_text() for page in PAGES)
    assert [name for name in library.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_a_link_that_leads_nowhere_and_a_formula_that_cannot_be_set_are_refused(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs-src")
    import guide

    (tmp_path / "a.html").write_text('<a href="b.html">b</a>')
    with pytest.raises(ValueError, match="a.html: the link to b.html leads nowhere"):
        guide.check_links(tmp_path)
    (tmp_path / "b.html").write_text('<a href="a.html#x">b</a>')
    with pytest.raises(ValueError, match="b.html: the link to a.html#x leads nowhere"):
        guide.check_links(tmp_path)
    with pytest.raises(ValueError, match=r"formula '\\\\nosuch\{x\}'"):
        guide.formula(r"\nosuch{x}")
    with pytest.raises(ValueError, match="p.md"):
        guide.page("# A\n\n![b](pictures/nobody.svg)\n", Path("p.html"), {})


def test_the_flags_that_the_guide_names_exist():
    shown = "".join(
        execute(["train.py", "--help"], ROOT / folder) for folder in ("agedb-dir", "sts-b-dir", "nyud2-dir", "shhs-dir")
    )
    tools = ("inspect", "compare", "sweep", "verify")
    shown += "".join(execute(["-m", "imbalanced_regression", tool, "--help"], ROOT) for tool in tools)
    other = {"--nproc_per_node", "--log_cosh_scale"}  # torchrun's, and the example's
    for page in PAGES:
        if page.stem == "machines":  # torchrun's and Docker's
            continue
        for flag in set(re.findall(r"(?<![\w-])--[a-z]\w*", page.read_text())) - other:
            assert re.search(rf"{flag}\b", shown), f"{page.name}: {flag}"


def test_every_method_by_a_flag_is_in_the_guide():
    text = "".join(page.read_text() for page in METHODS)
    assert [name for name in choices.methods() if name not in ("none", "linear") and not re.search(rf"\b{name}\b", text)] == []
