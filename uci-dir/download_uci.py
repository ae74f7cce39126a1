"""UCI-DIR's data: the four tables from archive.ics.uci.edu (CC BY 4.0), each verified, or taken from files of one's own.

    python download_uci.py                                       # all four, into data/
    python download_uci.py --dataset concrete
    python download_uci.py --from FOLDER                         # files by their names at UCI, or the same as csv
    python download_uci.py --dataset concrete --from strength.csv

Airfoil self-noise (Brooks, Pope, Marcolini 1989), abalone (Nash et al. 1994), real estate valuation (Yeh and Hsu 2018),
concrete compressive strength (Yeh 1998); UCI Machine Learning Repository.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from imbalanced_regression.cli import ArgumentParser, guard

HERE = Path(__file__).resolve().parent
DATASETS = ("airfoil", "abalone", "real_estate", "concrete")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", choices=("all", *DATASETS), default="all", help="which of the tables")
    parser.add_argument("--data_dir", type=Path, default=HERE / "data", help="folder to write to")
    parser.add_argument("--from", type=Path, dest="source", metavar="FILE", help="a file, or a folder of files, instead of UCI")
    parser.add_argument("--url", help="address of one table's file, for a mirror; needs --dataset")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    names = DATASETS if args.dataset == "all" else (args.dataset,)
    if args.dataset == "all" and (args.url or (args.source and args.source.is_file())):
        raise ValueError("--dataset: one file is one table's; pass which, for example --dataset concrete")
    for name in names:
        path = fetch(name, args)
        print(f"{path} is complete")


def fetch(name: str, args) -> Path:
    """The table's file in --data_dir, which is there only once it is known to be the right one."""
    from datasets import content_sha256, parse
    from utils import TABLES

    from imbalanced_regression.download import download

    table = TABLES[name]
    args.data_dir.mkdir(parents=True, exist_ok=True)
    there = [args.data_dir / file for file in table.files if (args.data_dir / file).is_file()]
    if there and not args.overwrite:
        parse(there[0], table)
        return there[0]
    if args.source is None:
        target = args.data_dir / table.files[0]
        new = download(args.url or table.url, target.with_name(f"new-{target.name}"), overwrite=True)
    else:
        source = find(name, args.source)
        if source.suffix in (".xls", ".xlsx") and source.suffix != Path(table.files[0]).suffix:
            raise ValueError(f"--from: {source}: expected {' or '.join(table.files)}, found another kind; save it as csv")
        target = args.data_dir / (table.files[0] if source.suffix == Path(table.files[0]).suffix else table.files[-1])
        new = Path(shutil.copyfile(source, target.with_name(f"new-{target.name}")))
    try:
        parse(new, table)
        if table.sha256 and target.name == table.files[0] and content_sha256(new) != table.sha256:
            raise ValueError(f"{target.name}: has the right size, but other numbers than UCI's file")
    except ValueError:
        new.unlink()
        raise
    new.replace(target)
    return target


def find(name: str, source: Path) -> Path:
    """The table's file: `source` itself, or by its name in that folder. Raises ValueError where there is none."""
    from utils import TABLES

    if source.is_file():
        return source
    found = [source / file for file in TABLES[name].files if (source / file).is_file()]
    if not found:
        raise ValueError(f"--from: {source} holds none of {', '.join(TABLES[name].files)}")
    return found[0]


if __name__ == "__main__":
    guard(main)
