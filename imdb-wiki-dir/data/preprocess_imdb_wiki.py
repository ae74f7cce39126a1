"""data/meta/imdb.csv and meta/wiki.csv -> data/imdb_wiki.csv with a column split, and data/imdb_wiki.png, a plot of it.

    python data/preprocess_imdb_wiki.py --data_dir DIR

Of each age up to 120, shuffled, the first k = min(count // 3, 150) go to val and the next k to test: both are balanced.
The published split was drawn so too, from rows whose order is not known: get it with download_imdb_wiki.py.
"""

from __future__ import annotations

from pathlib import Path

from imbalanced_regression.cli import ArgumentParser, guard

HERE = Path(__file__).resolve().parent
NAME, TITLE, METAS, CAP = "imdb_wiki", "IMDB-WIKI-DIR", ["imdb", "wiki"], 150


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=HERE, help="the folder that meta/ lies in")
    parser.add_argument("--seed", type=int, default=666, help="of the shuffle; 666 is the published one")
    parser.add_argument("--overwrite", action="store_true", help=f"replace a {NAME}.csv that is there")
    args = parser.parse_args()
    target = args.data_dir / f"{NAME}.csv"
    if target.exists() and not args.overwrite:
        raise FileExistsError(f"{target} exists, perhaps the published split; --overwrite replaces it")
    from imbalanced_regression.faces.table import plot_splits, preprocess

    metas = [args.data_dir / "meta" / f"{meta}.csv" for meta in METAS]
    sizes = preprocess(metas, target, cap=CAP, seed=args.seed)
    plot_splits(target, target.with_suffix(".png"), TITLE)
    print(f"{target}, drawn in {target.with_suffix('.png').name}: {sizes}")


if __name__ == "__main__":
    guard(main)
