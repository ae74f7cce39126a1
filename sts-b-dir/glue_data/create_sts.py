"""STS-B-DIR's data: the published split, or a new one drawn from GLUE's STS-B with a seed.

    python glue_data/create_sts.py                        fetch the published split (1.3 MB) into glue_data/STS-B
    python glue_data/create_sts.py --check [FOLDER]       say which split lies in glue_data/STS-B, or in FOLDER
    python glue_data/create_sts.py --from_glue --seed 1   download GLUE's STS-B, draw a split into glue_data/STS-B-seed1
    python glue_data/create_sts.py --from_glue STS-B.zip --seed 1 --out DIR    ... from a zip or folder that you have

What is fetched is verified by its sha256. A new split is drawn as the published one was, which had no seed: GLUE's
train and dev merged (7,249 pairs), 20 score bins of width 0.25 over [0, 5], from each bin 100 pairs at random, half to
dev and half to test, all others to train. Numbers on different splits do not compare. Some later papers' repositories
ship another draw under the same file names (168 of 1,000 test rows in common with the published one): `--check` tells.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
from pathlib import Path

import numpy as np

from imbalanced_regression.cli import ArgumentParser, guard
from imbalanced_regression.download import download
from imbalanced_regression.files import decode

HERE = Path(__file__).resolve().parent
PUBLISHED = {  # file -> sha256
    "train_new.tsv": "4da3322ae29f7ad1b7d03cdeafcb2480c276e5df1d08737678a7856697218a9a",
    "dev_new.tsv": "9ec12d785aa817ffe4b0f88fde442d3bf57161d8cbeaa84aaa1fdf764cca6dd6",
    "test_new.tsv": "55f90b3c5a0b2947d5ff64c41536191e9e1ba3bb5ffe64aca5465ab25fa8e94c",
}
PUBLISHED_URL = "https://raw.githubusercontent.com/YyzHarry/imbalanced-regression/main/sts-b-dir/glue_data/STS-B"
GLUE = {
    "train.tsv": "41c4d978b6162abdcada7e49a982211954cca5459c228db478af333124b257a2",
    "dev.tsv": "fe7dc0632a5033562f3cadff991f6e8d9b9b6311861660e78c3c82eb7db67f59",
}
GLUE_URL = "https://dl.fbaipublicfiles.com/glue/data/STS-B.zip"
PAIRS = "e9f0165f1158901c30abcc81c07882439675ea70fcd8d6ba455e16212e1d0595"  # of the 7,249 rows, sorted, without index
HEADER = ["index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2", "score"]
BINS, WIDTH = 20, 0.25


def read_rows(name: str, content: bytes) -> list[list[str]]:
    """The rows of a tsv as lists of 10 strings. Quotation marks are text; only a line feed ends a line."""
    rows = []
    for number, line in enumerate(decode(content, name).removesuffix("\n").split("\n"), 1):
        row = line.split("\t")
        if number == 1:
            if row != HEADER:
                raise ValueError(f"{name}, line 1: the header is {row}, expected {HEADER}")
            continue
        if len(row) != len(HEADER):
            raise ValueError(f"{name}, line {number}: {len(row)} columns, expected {len(HEADER)}")
        try:
            inside = 0 <= float(row[-1]) <= 5
        except ValueError:
            inside = False
        if not inside:
            raise ValueError(f"{name}, line {number}: score {row[-1]!r}, expected a number from 0 to 5")
        rows.append(row)
    return rows


def draw_split(rows: list[list[str]], seed: int, per_bin: int) -> dict[str, list[list[str]]]:
    """File -> rows: from each of the 20 bins `per_bin` rows at random, half to dev and half to test; the rest train.

    Rows keep their order; the index column counts from 0 in each file. ValueError when a bin has fewer than `per_bin`.
    """
    bins = np.minimum([int(float(row[-1]) / WIDTH) for row in rows], BINS - 1)  # /0.25 is exact, 5.0 joins the last bin
    counts = np.bincount(bins, minlength=BINS)
    if counts.min() < per_bin:
        few = ", ".join(
            f"[{b * WIDTH:g}, {(b + 1) * WIDTH:g}{']' if b == BINS - 1 else ')'} has {counts[b]}"
            for b in np.flatnonzero(counts < per_bin)
        )
        most = counts.min() // 2 * 2
        way_out = f"pass --per_bin {most} or less" if most else "a balanced split needs at least 2 pairs in every bin"
        raise ValueError(f"--per_bin {per_bin}: not every score bin has that many of the {len(rows)} pairs: {few}; {way_out}")
    rng = np.random.default_rng(seed)
    part = np.zeros(len(rows), int)  # 0 train, 1 dev, 2 test
    for b in range(BINS):
        drawn = rng.choice(np.flatnonzero(bins == b), per_bin, replace=False)
        part[drawn[: per_bin // 2]] = 1
        part[drawn[per_bin // 2 :]] = 2
    return {name: [[str(i), *rows[j][1:]] for i, j in enumerate(np.flatnonzero(part == p))] for p, name in enumerate(PUBLISHED)}


def read_glue(source: Path) -> dict[str, bytes]:
    """train.tsv and dev.tsv out of GLUE's zip or its unpacked folder."""
    if source.is_dir():
        return {name: _read(source / name, "--from_glue") for name in GLUE}
    if not source.exists():
        raise ValueError(f"--from_glue {source}: no such zip or folder; leave it empty to download GLUE's")
    try:
        with zipfile.ZipFile(source) as archive:
            found = {name: [m for m in archive.namelist() if m.split("/")[-1] == name] for name in GLUE}
            for name, members in found.items():
                if not members:
                    raise ValueError(f"--from_glue {source}: no {name} in it")
            return {name: archive.read(min(members, key=len)) for name, members in found.items()}
    except zipfile.BadZipFile as error:
        raise ValueError(f"--from_glue {source}: not a whole zip ({error}); delete it to download it again") from None


def write_split(split: dict[str, list[list[str]]], folder: Path, made: str, overwrite: bool = False) -> None:
    """Write the files and `split.json`, which says how they were `made`; all or none under their names.

    ValueError when `folder` has other files of these names, unless `overwrite`.
    """
    contents = {name: "".join("\t".join(row) + "\n" for row in [HEADER, *rows]).encode("utf-8") for name, rows in split.items()}
    others = [name for name in contents if (folder / name).exists() and (folder / name).read_bytes() != contents[name]]
    if others and not overwrite:
        raise ValueError(f"{folder} has another {', '.join(others)}; pass another --out, or --overwrite to replace them")
    record = {"made": made, "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}}
    contents["split.json"] = (json.dumps(record, indent=2) + "\n").encode("utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.part").write_bytes(content)
    for name in contents:
        os.replace(folder / f"{name}.part", folder / name)


def describe(folder: Path) -> str:
    """Which split lies in `folder`, in one sentence; ValueError when it is neither the published nor a recorded one."""
    contents = {name: _read(folder / name, "--check") for name in PUBLISHED}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    rows = {name: read_rows(str(folder / name), content) for name, content in contents.items()}
    sizes = "/".join(f"{len(part):,}" for part in rows.values()) + " train/dev/test pairs"
    if hashes == PUBLISHED:
        return f"{folder}: the published split, {sizes}, all three hashes right"
    if (folder / "split.json").exists():
        try:
            record = json.loads((folder / "split.json").read_text(encoding="utf-8"))
            made, recorded = record["made"], record["sha256"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{folder / 'split.json'} is not what create_sts.py writes; delete it") from None
        if hashes == recorded:
            return f"{folder}: {made}, {sizes}, hashes right; do not compare its numbers with published ones"
    pairs = sorted("\t".join(row[1:]) for part in rows.values() for row in part)
    same = hashlib.sha256("\n".join(pairs).encode("utf-8")).hexdigest() == PAIRS
    what = "another draw of the same 7,249 pairs, as some later papers ship" if same else "other pairs than STS-B-DIR's"
    wrong = ", ".join(f"{name} has sha256 {hashes[name]}" for name in PUBLISHED if hashes[name] != PUBLISHED[name])
    raise ValueError(f"{folder}: NOT the published split but {what}, {sizes} ({wrong}); its numbers compare with no other")


def _read(path: Path, flag: str) -> bytes:
    if not path.is_file():
        raise ValueError(f"{flag}: {path} does not exist; `python glue_data/create_sts.py --help` says how to get it")
    return path.read_bytes()


def parse_args():
    parser = ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--from_glue",
        nargs="?",
        const="",
        metavar="ZIP|FOLDER",
        help="draw a new split; without a value GLUE's zip is downloaded",
    )
    what.add_argument(
        "--check", nargs="?", const=HERE / "STS-B", type=Path, metavar="FOLDER", help="only say which split it is"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the new split")
    parser.add_argument("--per_bin", type=int, default=100, help="pairs drawn per score bin, half to dev, half to test")
    parser.add_argument("--out", type=Path, help="folder to write to (STS-B, or STS-B-seed<seed>, beside this script)")
    parser.add_argument("--url", help="a mirror: the folder of the published files, or with --from_glue the zip")
    parser.add_argument("--overwrite", action="store_true", help="replace other files of these names")
    args = parser.parse_args()
    if args.from_glue is None and (args.seed, args.per_bin) != (0, 100):
        parser.error("--seed and --per_bin belong to a new split; add --from_glue")
    if args.seed < 0:
        parser.error(f"--seed {args.seed}: pass 0 or more")
    if args.per_bin < 2 or args.per_bin % 2:
        parser.error(f"--per_bin {args.per_bin}: pass an even number from 2 on, half goes to dev and half to test")
    return args


def main() -> None:
    args = parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.check:
        print(describe(args.check))
        return
    if args.from_glue is None:
        out = args.out or HERE / "STS-B"
        base = (args.url or PUBLISHED_URL).rstrip("/")
        for name, sha256 in PUBLISHED.items():
            try:
                download(f"{base}/{name}", out / name, sha256=sha256, overwrite=args.overwrite)
            except ValueError as error:
                raise ValueError(f"{error} (which split is it? --check tells)") from None
        print(describe(out))
        return
    out = args.out or HERE / f"STS-B-seed{args.seed}"
    source = Path(args.from_glue) if args.from_glue else out / "STS-B.zip"
    if not args.from_glue:
        download(args.url or GLUE_URL, source)
    contents = read_glue(source)
    made = f"a split drawn by create_sts.py --from_glue --seed {args.seed} --per_bin {args.per_bin}"
    if {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()} != GLUE:
        made += " from other files than GLUE's"
    rows = [row for name, content in contents.items() for row in read_rows(f"{source}: {name}", content)]
    write_split(draw_split(rows, args.seed, args.per_bin), out, made, args.overwrite)
    print(describe(out))


if __name__ == "__main__":
    guard(main)
