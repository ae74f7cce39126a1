"""The guide (docs-src/pages) and the API, the latter from its docstrings by pdoc, as HTML; a warning is an error.

    python docs-src/make_docs.py              # into docs/
    python docs-src/make_docs.py --out site
"""

from __future__ import annotations

import pkgutil
import warnings
from pathlib import Path

from imbalanced_regression.cli import ArgumentParser, guard

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder for the HTML")
    args = parser.parse_args()
    warnings.simplefilter("error")
    import guide
    import pdoc

    import imbalanced_regression as library
    from imbalanced_regression import training

    # public names load when first used, and pdoc looks at those a module has already
    for package in (library, training):
        vars(package).update({name: getattr(package, name) for name in package.__all__})
    pdoc.render.configure(
        docformat="google", footer_text=f"imbalanced_regression {library.__version__}",
        template_directory=ROOT / "docs-src" / "templates",
    )
    # by name, as pdoc leaves out the modules of a package that lists public names
    packages = [(package.__path__, f"{package.__name__}.") for package in (library, training)]
    modules = [module.name for where, prefix in packages for module in pkgutil.iter_modules(where, prefix)]
    pdoc.pdoc(library.__name__, *(name for name in modules if not name.endswith("__main__")), output_directory=args.out)
    guide.build(args.out)
    print(args.out / "index.html")


if __name__ == "__main__":
    guard(main)
