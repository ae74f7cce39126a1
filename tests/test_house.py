"""The house rules that a machine can hold: who imports whom, how long a file may be, and what the README's table says."""

from __future__ import annotations

import ast
import json
import re
import zipfile

import pytest
from commands import PROGRAMS, ROOT, fresh

import imbalanced_regression as library
from imbalanced_regression import choices

LIBRARY = ROOT / "imbalanced_regression"

# wing or module -> what it may import of the library; a wing's modules may import one another
MAY_IMPORT = {
    "bins": set(),
    "files": set(),
    "interrupt": set(),
    "images": set(),
    "cache": {"images"},
    "download": {"files"},
    "cli": {"interrupt"},
    "methods": {"bins"},
    "metrics": {"bins", "methods.relevance"},
    "uncertainty": {"bins", "metrics"},
    "training": {"bins", "files", "interrupt", "metrics", "methods.fds", "methods.bsam", "methods.own_types"},
    "builders": {"bins", "methods"},
    "choices": {"builders", "training.objective"},
    "presets": set(),
    "flags": {"choices", "cli", "interrupt", "methods", "presets", "training"},
    "stages": {"choices", "flags", "training"},
    "testing": {"bins", "choices", "methods.losses", "training"},
    "faces": {"bins", "cache", "files", "images", "choices", "cli", "flags", "methods.lds", "training.loaders", "training.plan",
              "training.precision"},
    "tools": {"", "bins", "choices", "cli", "files", "methods", "metrics", "uncertainty", "training.checkpoint",
              "training.plan"},
    "sklearn": {"bins", "methods", "metrics", "training.model"},
    "__main__": {"bins", "cli", "files", "tools"},
}


def modules():
    return [path for path in sorted(LIBRARY.rglob("*.py")) if path != LIBRARY / "__init__.py"]


def imported(path) -> set[str]:
    """The modules of the library that a file imports, as "wing.module"; "" is the package itself."""
    package, found = list(path.relative_to(ROOT).parts[:-1]), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any(name.name.startswith("imbalanced_regression") for name in node.names), f"{path}: relative imports"
        if isinstance(node, ast.ImportFrom) and not node.level:
            assert not node.module.startswith("imbalanced_regression"), f"{path}: imports within the library are relative"
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            for name in node.names:
                place = ROOT.joinpath(*base, name.name)
                is_module = place.with_suffix(".py").is_file() or place.is_dir()
                found.add(".".join([*base, name.name][1:] if is_module else base[1:]))
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(LIBRARY)))
def test_imports_go_down_only(path):
    wing = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
    allowed = MAY_IMPORT[wing] | {wing}
    for name in imported(path):
        assert any(name == one or (one and name.startswith(f"{one}.")) for one in allowed), f"{wing} imports {name}"


def test_no_file_of_the_library_imports_a_benchmark():
    folders = {path.stem for folder in ROOT.glob("*-dir") for path in folder.glob("*.py")}
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert node.module.split(".")[0] not in folders - {"test"}, f"{path} imports {node.module}"


def test_flags_end_above_the_library():
    """No argparse and no `args` below flags.py: a plan, an objective and settings go down."""
    for path in [*LIBRARY.glob("training/*.py"), *LIBRARY.glob("methods/*.py"), LIBRARY / "choices.py", LIBRARY / "builders.py",
                 LIBRARY / "testing.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.id] if isinstance(node, ast.Name) else [node.arg] if isinstance(node, ast.arg) else []
            modules_ = [node.module] if isinstance(node, ast.ImportFrom) else []
            assert "argparse" not in modules_, path
            if "args" in names:
                assert isinstance(node, (ast.Name, ast.arg))
                assert "*args" in path.read_text().splitlines()[node.lineno - 1], f"{path}, line {node.lineno}"


def test_the_loop_knows_no_method_by_name():
    """BSAM's step and FDS, which lies within the model, apart."""
    words_of_the_language = {"none", "linear", "l1", "mse", "dense", "inverse", "dist", "over", "under", "gaussian", "laplace",
                             "log", "mean", "median", "balanced"}
    names = set(choices.methods()) - words_of_the_language - {"fds", "ascent"}
    for path in LIBRARY.glob("training/*.py"):
        words = set(re.findall(r"[a-z_0-9]+", path.read_text().lower()))
        assert not names & words, f"{path}: {names & words}"


def test_run_is_under_80_lines_and_every_train_py_under_110():
    tree = ast.parse((LIBRARY / "training" / "engine.py").read_text())
    (run,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run")
    assert run.end_lineno - run.lineno + 1 < 80
    for path in ROOT.glob("*-dir/train.py"):
        assert len(path.read_text().splitlines()) < 110, path


def test_no_method_is_longer_than_350_lines():
    for path in LIBRARY.glob("methods/*.py"):
        assert len(path.read_text().splitlines()) <= 350, path


# -- methods -----------------------------------------------------------------------------------------------------------


def flag(slot: str, name: str) -> str:
    return f"--{name}" if slot == "switch" else f"--{slot} {name}"


def test_the_readmes_table_is_what_choices_offers():
    """A row for each flag, or for several values of one; its page is there, and so are its name and the paper it gives."""
    row = re.compile(r"^\| `(--[a-z0-9_ /]+)` \| \[(.+?)\]\((.+?)\) \| (.+?) \|(.*)$", re.MULTILINE)
    offered = {flag(slot, name): builder for slot, names in choices.SLOTS.items() for name, builder in names.items()
               if name not in ("none", "linear")}
    written = []
    for words, _, page, own, paper in row.findall((ROOT / "README.md").read_text()):
        slot, _, names = words.partition(" ")
        flags = [f"{slot} {name}".strip() for name in names.split(" / ")]
        written += flags
        assert (ROOT / page).is_file()
        own = re.findall(r"`(\w+)", own)
        assert own
        assert set(own) <= {*library.__all__, "Plan"}
        for one in flags:
            assert paper.strip() in choices.says(offered[one])
    assert sorted(written) == sorted(offered)


def test_the_readme_is_a_page():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) < 200
    assert [line for line in lines if len(line) > 120] == []


def test_the_guides_page_names_every_file(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs-src")
    import house

    assert house.PAGE.read_text() == house.page(), "run python docs-src/house.py"
    assert "| |" not in house.page()  # every file opens with a sentence


def test_every_knob_belongs_to_a_method_and_every_term_has_a_strength():
    for knob, (default, told, *_) in choices.KNOBS.items():
        assert choices.owners(knob), f"{knob} begins with no method's name"
        assert told
        assert default is not None
    assert {f"{name}_strength" for name in choices.TERMS} <= choices.KNOBS.keys()
    names = list(choices.methods())
    assert len(names) == len(set(names))


# -- the package -------------------------------------------------------------------------------------------------------


def test_help_answers_without_torch():
    folders = sorted(str(path.parent) for path in ROOT.glob("*-dir/train.py"))
    words = json.dumps([[folder, "train.py"] for folder in folders])
    shown = fresh([PROGRAMS / "light_help.py", words]).split("$ ")[1:]
    assert len(shown) == len(folders) == 6
    assert all("--ranksim_strength" in text for text in shown)


def test_a_wheel_holds_every_package_and_imports_in_a_clean_place(tmp_path):
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    beside = [ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE")]
    for path in [*modules(), LIBRARY / "__init__.py", LIBRARY / "py.typed", *beside]:
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (tmp_path / "out").mkdir()
    fresh([PROGRAMS / "build_wheel.py", tmp_path / "out"], source)
    (wheel,) = (tmp_path / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if name.endswith(".py")}
        assert held == {str(path.relative_to(ROOT)) for path in [*modules(), LIBRARY / "__init__.py"]}
        file.extractall(tmp_path / "clean")
    said = fresh([PROGRAMS / "every_name.py"], tmp_path, PYTHONPATH=str(tmp_path / "clean"))
    assert said.strip() == str(tmp_path / "clean" / "imbalanced_regression" / "__init__.py")
