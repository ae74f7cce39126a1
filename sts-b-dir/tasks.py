"""The data of STS-B-DIR: tsv files -> token indices -> batches of padded sentence pairs; and the word vectors.

A sample is ((indices of sentence 1, of sentence 2), score 0..5, weight); a batch is what `collate` makes of them.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from glue_data.create_sts import PUBLISHED
from torch import Tensor
from torch.utils.data import Dataset

from imbalanced_regression.files import read_text

logger = logging.getLogger(__name__)

FILES = {"train": "train_new.tsv", "val": "dev_new.tsv", "test": "test_new.tsv"}
PADDING, UNKNOWN = 0, 1


@dataclass
class Pairs:
    """The sentence pairs of one file, as tokens, and their scores (N,) float32."""

    sentences: list[tuple[list[str], list[str]]]
    scores: np.ndarray


def find_data(data_dir: str) -> Path:
    """The folder with the three tsv files: `data_dir` itself, or STS-B/ in it.

    Raises ValueError naming the file that is missing and the script that gets it.
    """
    for folder in (Path(data_dir), Path(data_dir) / "STS-B"):
        if any((folder / name).is_file() for name in FILES.values()):
            missing = [name for name in FILES.values() if not (folder / name).is_file()]
            if missing:
                raise ValueError(f"--data_dir: {folder} has no {missing[0]}; run python glue_data/create_sts.py")
            return folder
    raise ValueError(
        f"--data_dir: no {FILES['train']} in {data_dir} or {data_dir}/STS-B; run python glue_data/create_sts.py, "
        "or python make_sample.py for a sample and pass --data_dir sample"
    )


def read_pairs(path: Path, max_seq_len: int, *, lowercase: bool = False) -> Pairs:
    """Read a tsv with the columns sentence1, sentence2 and score, found by the header line.

    Quotation marks are text. Sentences are cut to `max_seq_len` tokens, and read in lower case if `lowercase`.

    Raises ValueError naming file and line for a missing column or field, an empty sentence, or a score outside 0..5.
    """
    from nltk.tokenize import word_tokenize

    try:
        lines = read_text(path).split("\n")  # only a line feed ends a line
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    header = lines[0].split("\t")
    missing = [name for name in ("sentence1", "sentence2", "score") if name not in header]
    if missing:
        raise ValueError(f"{path}: line 1: no column {missing[0]!r} in the header")
    at = [header.index(name) for name in ("sentence1", "sentence2", "score")]
    sentences, scores = [], []
    for number, line in enumerate(lines[1:], start=2):
        if not line and number == len(lines):
            break
        fields = line.split("\t")
        if len(fields) != len(header):
            raise ValueError(f"{path}: line {number}: expected {len(header)} tab-separated fields, found {len(fields)}")
        first, second, score = (fields[i] for i in at)
        try:
            value = float(score)
        except ValueError:
            raise ValueError(f"{path}: line {number}: the score {score!r} is no number") from None
        if not 0 <= value <= 5:
            raise ValueError(f"{path}: line {number}: the score {score} lies outside 0..5")
        pair = [
            word_tokenize(text.lower() if lowercase else text, preserve_line=True)[:max_seq_len] for text in (first, second)
        ]
        if not all(pair):
            raise ValueError(f"{path}: line {number}: a sentence is empty")
        sentences.append((pair[0], pair[1]))
        scores.append(value)
    if not scores:
        raise ValueError(f"{path}: holds no sentence pairs")
    return Pairs(sentences, np.array(scores, dtype=np.float32))


def read_splits(folder: Path, max_seq_len: int, *, lowercase: bool = False) -> dict[str, Pairs]:
    """The three files of a folder, each as `read_pairs` reads it: {"train", "val", "test"}."""
    return {split: read_pairs(folder / name, max_seq_len, lowercase=lowercase) for split, name in FILES.items()}


def build_vocabulary(splits: Sequence[Pairs], max_words: int) -> dict[str, int]:
    """word -> index over all splits, the most frequent first (ties: first seen); 0 is padding, 1 unknown."""
    counts = Counter(token for pairs in splits for pair in pairs.sentences for sentence in pair for token in sentence)
    words = [word for word, _ in counts.most_common(max_words)]
    return {word: index for index, word in enumerate(words, start=UNKNOWN + 1)}


class PairDataset(Dataset):
    """Sentence pairs as indices: item -> ((indices 1, indices 2), score, weight)."""

    def __init__(self, pairs: Pairs, vocabulary: dict[str, int], weights: np.ndarray | None = None):
        def index(tokens):
            return torch.tensor([vocabulary.get(token, UNKNOWN) for token in tokens])

        self.items = [(index(first), index(second)) for first, second in pairs.sentences]
        self.scores = pairs.scores
        self.weights = np.ones(len(self.scores), np.float32) if weights is None else weights

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int):
        return self.items[i], self.scores[i], self.weights[i]


def collate(samples) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    """Samples -> ((indices (B, 2, T), lengths (B, 2)), scores (B, 1), weights (B, 1)), padded to the longest sentence."""
    pairs, scores, weights = zip(*samples)
    lengths = torch.tensor([[len(sentence) for sentence in pair] for pair in pairs])
    tokens = torch.full((len(pairs), 2, int(lengths.max())), PADDING)
    for row, pair in enumerate(pairs):
        for side, sentence in enumerate(pair):
            tokens[row, side, : len(sentence)] = sentence
    return (tokens, lengths), torch.tensor(np.array(scores))[:, None], torch.tensor(np.array(weights)).reshape(len(weights), -1)


def length(dataset: PairDataset, i: int) -> int:
    """The longer sentence of a pair, in tokens."""
    return max(len(sentence) for sentence in dataset.items[i])


def words_of(vocabulary: dict[str, int]) -> list[str]:
    """The word of each row of the embedding, (V,): padding and unknown first."""
    return ["<padding>", "<unknown>", *vocabulary]


def is_published(folder: Path, max_seq_len: int = 40, max_words: int = 30_000, lowercase: bool = False) -> bool:
    """Whether the words and their order are the published ones: the published split to the byte, read as published."""
    found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in PUBLISHED}
    return (max_seq_len, max_words, lowercase) == (40, 30_000, False) and found == PUBLISHED


def make_embeddings(vocabulary: dict[str, int], d_word: int, *, glove_file: str | None, seed: int) -> Tensor:
    """(V, d_word) word vectors: GloVe's, N(0, 1) for words it lacks or without a file; zero for the padding."""
    words = words_of(vocabulary)
    if glove_file is not None:
        from glove.reader import read_glove

        return torch.from_numpy(read_glove(glove_file, words, d_word, seed))
    vectors = np.random.default_rng(seed).standard_normal((len(words), d_word), dtype=np.float32)
    vectors[PADDING] = 0
    return torch.from_numpy(vectors)
