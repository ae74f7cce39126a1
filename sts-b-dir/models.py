"""The model of STS-B-DIR: word embeddings -> BiLSTM -> max over time, for both sentences -> [u; v; |u - v|; u * v].

Two sentences are two rows of one LSTM call over their true lengths, so that cuDNN runs once per step.
Source: the paper, section 4 (STS-B-DIR), after the BiLSTM baseline of GLUE (Wang et al. 2018).
"""

from __future__ import annotations

import logging

import torch
from loss import PUBLISHED_UNIT
from torch import Tensor, nn

from imbalanced_regression.training.model import ScaledLinear
from imbalanced_regression.training.precision import run_rnn

logger = logging.getLogger(__name__)

ROWS = "encoder.embedding.weight"

# key prefixes of published files and our own; the prefix names each highway layer, and nobody stacks more than a few
PUBLISHED_TO_OURS = (
    *((f"pair_encoder._highway_layer._module._layers.{n}.", f"encoder.highway.{n}.linear.") for n in range(100)),
    ("pair_encoder._text_field_embedder.token_embedder_words.", "encoder.embedding."),
    ("pair_encoder._phrase_layer._module.", "encoder.lstm."),
    ("sts-b_pred_layer.", "head."),
    ("FDS.", "fds."),
)


class PairEncoder(nn.Module):
    """Two sentences -> features (B, 8 d_hid).

    Args:
        embeddings: (V, d_word) the words' vectors; row 0 is the padding and stays zero.
        train_words: whether they learn.
        d_hid: LSTM units per direction.
        layers: LSTM layers. highway_layers: highway layers between embeddings and LSTM.
        dropout, dropout_embs: after the LSTM, and after the embeddings.
        words: the V words of the rows, which checkpoints keep; None for rows without names.
        published_order: whether the words are the published ones in their order, so that files without words fit.
    """

    def __init__(
        self, embeddings: Tensor, *, train_words: bool, d_hid: int = 1500, layers: int = 2, highway_layers: int = 0,
        dropout: float = 0.2, dropout_embs: float = 0.2, words: list[str] | None = None, published_order: bool = False,
    ):
        super().__init__()
        d_word = embeddings.shape[1]
        self.words, self.published_order = words, published_order
        self.embedding = nn.Embedding.from_pretrained(embeddings, freeze=not train_words, padding_idx=0)
        self.highway = nn.ModuleList(Highway(d_word) for _ in range(highway_layers))
        self.dropout_embs = nn.Dropout(dropout_embs)
        self.lstm = nn.LSTM(d_word, d_hid, num_layers=layers, bidirectional=True, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.feature_dim = 8 * d_hid

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """(word indices (B, 2, T), lengths (B, 2)) -> features (B, 8 d_hid)."""
        tokens, lengths = inputs
        words = self.embedding(tokens.flatten(0, 1))
        for layer in self.highway:
            words = layer(words)
        words = self.dropout_embs(words)
        lengths = lengths.flatten()
        states = self.dropout(run_rnn(self.lstm, words, lengths))
        padding = torch.arange(tokens.shape[2], device=tokens.device) >= lengths[:, None]
        sentences = states.masked_fill(padding[:, :, None], -torch.inf).amax(dim=1)
        u, v = sentences.unflatten(0, (-1, 2)).unbind(1)
        return torch.cat([u, v, (u - v).abs(), u * v], dim=1)

    def kept_with(self) -> dict[str, list[str]]:
        """What a checkpoint keeps beside the tensors: the rows' words."""
        return {} if self.words is None else {"words": self.words}

    def fit(self, content: dict, state: dict[str, Tensor], source: str) -> dict[str, Tensor]:
        """A checkpoint's state for this vocabulary: rows are brought over by word, other words keep their own vectors.

        The optimizer's averages in `content` move with the rows. `source` names the file in messages.
        Raises ValueError for a file without words, unless the words are the published ones in their order.
        """
        theirs, rows = content.get("words"), state.get(ROWS)
        if self.words is None or rows is None or theirs == self.words:
            return state
        if theirs is None:
            if self.published_order:
                return state
            raise ValueError(
                f"{source} holds no words, so it fits the published split alone, read with the default --max_seq_len, "
                "--max_word_v_size and --lowercase; python glue_data/create_sts.py fetches that split, and --check knows it"
            )
        if len(theirs) != len(rows):
            raise ValueError(f"{source} is damaged: it holds {len(theirs)} words and {len(rows)} word vectors")
        place = {word: row for row, word in enumerate(theirs)}
        there = torch.tensor([place.get(word, -1) for word in self.words])
        known = there >= 0
        logger.warning(
            "%s has other words or another order: %d vectors are brought over by word, %d words are new and keep their own",
            source, int(known.sum()), int((~known).sum()),
        )

        def brought(old: Tensor, new: Tensor) -> Tensor:
            new = new.detach().to(old).clone()
            new[known] = old[there[known]]
            return new

        own = self.embedding.weight
        if own.requires_grad and "optimizer" in content:  # the embedding is the first parameter that learns
            averages = content["optimizer"].get("state", {}).get(0, {})
            for name, value in averages.items():
                if isinstance(value, Tensor) and value.shape == rows.shape:
                    averages[name] = brought(value, torch.zeros_like(own, device=value.device))
        return {**state, ROWS: brought(rows, own) if rows.shape[1] == own.shape[1] else rows}


class Highway(nn.Module):
    """x -> g relu(W x) + (1 - g) x with a learnt gate g that starts open to x (Srivastava et al. 2015)."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, 2 * width)
        nn.init.constant_(self.linear.bias[width:], 1.0)

    def forward(self, x: Tensor) -> Tensor:
        changed, gate = self.linear(x).chunk(2, dim=-1)
        gate = torch.sigmoid(gate)
        return gate * x + (1 - gate) * torch.relu(changed)


def make_head(feature_dim: int) -> ScaledLinear:
    """features -> score 0..5, (B, 1); it learns in score / 5, as published."""
    return ScaledLinear(feature_dim, scale=PUBLISHED_UNIT)
