"""Rows of a comparison: a folder's methods.toml names them, and a run is a row's flags on a data set with a seed.

The one idea: a row is nothing but flags of the folder's train.py, so whatever the flags can do can be compared, by a row of
one's own too. `{NAME}` among the flags stands for the best checkpoint of another row's run on that data set and seed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

FILE = "methods.toml"
SET_HERE = {"--seed": "--seeds", "--store_root": "--out"}  # flags that each run is given, and what asks for them
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_NEEDS = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Row:
    """A method as a row of the table: its name and flags, and published results with their source.

    published: {metric: {group: number}}, or {data set: that} where the folder has several.
    """

    name: str
    flags: tuple[str, ...]
    paper: bool = False
    published: dict = field(default_factory=dict, compare=False)
    source: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the rows whose checkpoints the flags ask for."""
        return tuple(name for flag in self.flags for name in _NEEDS.findall(flag))

    def published_on(self, dataset: str) -> dict[str, dict[str, float]]:
        """{metric: {group: number}} as published on that data set; {} where nothing is."""
        return self.published.get(dataset, {}) if dataset else self.published


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's folder: its rows by name, and the flags of each of its data sets by name ("" where there is one)."""

    folder: Path
    rows: dict[str, Row]
    datasets: dict[str, tuple[str, ...]]


def read_benchmark(folder: Path) -> Benchmark:
    """The methods.toml of a benchmark's folder.

    Raises ValueError for a folder without train.py or methods.toml, or a file that is not as `sweep --help` says.
    """
    if not (folder / "train.py").is_file():
        raise ValueError(f"FOLDER: {folder} is no benchmark's folder: it has no train.py")
    file = folder / FILE
    if not file.is_file():
        raise ValueError(f"FOLDER: {folder} has no {FILE}; write one ([name] and flags = \"--lds ...\" for each row)")
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: {error}") from None
    datasets = content.pop("datasets", {"": ""})
    rows = {}
    for name, entry in content.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("flags"), str):
            raise ValueError(f'{file}: [{name}] has no flags; expected flags = "--reweight inverse ..." (or "")')
        unknown = entry.keys() - {"flags", "paper", "published", "source"}
        if unknown:
            raise ValueError(f"{file}: [{name}] has {min(unknown)!r}; expected flags, paper, published and source")
        published = entry.get("published", {})
        for dataset in datasets:
            _check_published(published.get(dataset, {}) if dataset else published, f"{file}: [{name}]")
        if "" not in datasets and (others := published.keys() - datasets.keys()):
            raise ValueError(f"{file}: [{name}] published: expected data sets ({', '.join(datasets)}), found {min(others)!r}")
        rows[name] = Row(check_name(name, str(file)), tuple(shlex.split(entry["flags"])), bool(entry.get("paper")),
                         published, entry.get("source", ""))
    if not rows:
        raise ValueError(f"{file}: names no row")
    named = folder if folder.name not in ("", "..") else folder.resolve()  # runs lie in a folder of its name
    return Benchmark(named, rows, {name: tuple(shlex.split(flags)) for name, flags in datasets.items()})


def _check_published(published: object, where: str) -> None:
    numbers = isinstance(published, dict) and all(
        isinstance(groups, dict) and all(isinstance(value, (int, float)) for value in groups.values())
        for groups in published.values()
    )
    if not numbers:
        raise ValueError(f"{where} published: expected {{ l1 = {{ overall = 7.77, few = 13.67 }} }}, found {published!r}")


def check_name(name: str, where: str, what: str = "row") -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{where}: a {what}'s name has letters, digits, _ . + and -, found {name!r}")
    return name


def own_row(text: str) -> Row:
    """A row from the command line, "name: --flags"."""
    return Row(*_own("--row", text, "row", "lds9: --lds --lds_ks 9"))


def _own(flag: str, text: str, what: str, example: str) -> tuple[str, tuple[str, ...]]:
    name, colon, flags = text.partition(":")
    if not colon:
        raise ValueError(f'{flag}: expected "name: --flags", for example "{example}", found {text!r}')
    try:
        words = tuple(shlex.split(flags))
    except ValueError as error:
        raise ValueError(f"{flag}: {text!r}: {error}") from None
    return check_name(name.strip(), flag, what), words


def choose_datasets(benchmark: Benchmark, words: list[str] | None) -> dict[str, tuple[str, ...]]:
    """The flags of each data set that `words` ask for, by name or of one's own as "name: --flags"; None means all there are.

    Raises ValueError for a name that the benchmark does not know, and for a name of two sets of flags.
    """
    if words is None:
        return benchmark.datasets
    chosen: dict[str, tuple[str, ...]] = {}
    for word in words:
        if ":" in word:
            name, flags = _own("--datasets", word, "data set", "gap: --split gap.csv")
            if chosen.get(name, flags) != flags or name in benchmark.datasets:
                raise ValueError(f"--datasets: there are two data sets {name!r}; give yours another name")
        elif word and word in benchmark.datasets:
            name, flags = word, benchmark.datasets[word]
        else:
            there = ", ".join(filter(None, benchmark.datasets)) or "one"
            raise ValueError(f'--datasets: {benchmark.folder} has {there}, found {word!r}; one of your own is "name: --flags"')
        chosen[name] = flags
    return chosen


def choose(benchmark: Benchmark, names: list[str], own: list[Row]) -> list[Row]:
    """The rows that `names` ask for ("all", "paper" or rows' names), then one's own, then rows whose checkpoints they need.

    Raises ValueError for a name that is no row, and for a name of two rows.
    """
    for row in own:
        if row.name in benchmark.rows or any(other.name == row.name and other.flags != row.flags for other in own):
            raise ValueError(f"--row: there are two rows {row.name!r}; give yours another name")
    known = {**benchmark.rows, **{row.name: row for row in own}}
    chosen: dict[str, Row] = {}
    for name in names:
        if name in ("all", "paper"):
            found = [row for row in benchmark.rows.values() if name == "all" or row.paper]
            if not found:
                raise ValueError(f"--methods paper: {benchmark.folder / FILE} marks no row with paper = true; pass names")
        elif name in known:
            found = [known[name]]
        else:
            raise ValueError(f"--methods: {benchmark.folder} has no row {name!r}; expected all, paper, {', '.join(known)}")
        chosen.update((row.name, row) for row in found)
    chosen.update((row.name, row) for row in own)
    waiting = list(chosen.values())
    while waiting:
        row = waiting.pop()
        for need in row.needs:
            if need not in known:
                raise ValueError(f"row {row.name}: {{{need}}} asks for the checkpoint of a row that is not there")
            if need not in chosen:
                chosen[need] = known[need]
                waiting.append(known[need])
    return list(chosen.values())


def seeds(words: list[str]) -> list[int]:
    """Seeds from numbers and ranges: ["0-4"] -> [0, 1, 2, 3, 4]; ["0,2", "7"] -> [0, 2, 7]."""
    found: list[int] = []
    for part in (part for word in words for part in word.split(",")):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last or last - first >= 10_000:
            raise ValueError(f"--seeds: expected numbers and ranges such as 0-4 or 0,2,7, found {part!r}")
        found.extend(range(first, last + 1))
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class Job:
    """One run: a row on a data set with a seed. `place` is its own folder, in which train.py makes the run's folder."""

    benchmark: Path
    dataset: str
    row: Row
    seed: int
    flags: tuple[str, ...]  # all but the row's: the data set's, and those behind --
    place: Path

    @property
    def title(self) -> str:
        return " ".join(part for part in (self.benchmark.name, self.dataset, self.row.name, f"seed {self.seed}") if part)


def make_jobs(benchmarks: list[Benchmark], names: list[str], own: list[Row], numbers: list[int], shared: list[str],
              root: Path, datasets: list[str] | None = None) -> list[Job]:
    """All runs, seeds outermost: a sweep that is stopped early has whole tables of fewer seeds.

    A run's place is named by its row and a hash of all its flags, so that other flags never meet another run's files.

    Raises ValueError for flags behind -- that the sweep sets itself, and as `choose` and `choose_datasets`.
    """
    for flag, instead in SET_HERE.items():
        if any(word == flag or word.startswith(f"{flag}=") for word in shared):
            raise ValueError(f"{flag}: the sweep sets it for each run; pass {instead}, before the --")
    jobs = []
    chosen = [(benchmark, choose(benchmark, names, own), choose_datasets(benchmark, datasets)) for benchmark in benchmarks]
    for seed in numbers:
        for benchmark, rows, known in chosen:
            for dataset, before in known.items():
                flags = (*before, *shared)
                where = root / benchmark.folder.name / dataset if dataset else root / benchmark.folder.name
                for row in rows:
                    jobs.append(Job(benchmark.folder, dataset, row, seed, flags, where / _slug(row, flags) / f"seed{seed}"))
    return jobs


def _slug(row: Row, flags: tuple[str, ...]) -> str:
    identity = json.dumps([row.flags, flags])
    return f"{row.name}-{hashlib.sha256(identity.encode()).hexdigest()[:6]}"
