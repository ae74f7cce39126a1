"""One contract for every method that a flag reaches, found in `choices` by itself and built from the flags' defaults."""

from __future__ import annotations

import pytest
import torch

from imbalanced_regression import choices, cli, flags
from imbalanced_regression.testing import KINDS, check_method

SETTINGS = {"loss": "mse", "bmc_sigma": 20.0, "gai_sigma": 20.0, "bni_sigma": 20.0, "gai_components": 3}
SLOTS = ("reweight", "switch", "loss", "terms", "head", "pretrain")
OTHERS = ("none", "linear", "lds", "fds", "sqrt_inv", "inverse")
METHODS = [(slot, name) for slot in SLOTS for name in choices.SLOTS[slot] if name not in OTHERS]


def settings(**changes) -> dict:
    """What the flags say when none is given but these."""
    parser = cli.ArgumentParser()
    flags.add(parser, {**SETTINGS, **changes})
    return vars(parser.parse_args([]))


@pytest.mark.parametrize(("slot", "name"), METHODS, ids=lambda value: str(value))
def test_the_contract(slot, name):
    own = settings()
    make = {
        "loss": lambda labels, width: choices.LOSSES[name](own, labels),
        "terms": lambda labels, width: choices.TERMS[name](own, labels, width),
        "head": lambda labels, width: choices.HEADS[name](own, labels, width),
        "reweight": lambda labels, width: choices.REWEIGHTS[name](own, labels),
        "pretrain": lambda labels, width: choices.PRETRAINS[name](own, labels),
        "switch": lambda labels, width: 0.1,
    }[slot]
    check_method(make, "ascent" if slot == "switch" else slot)


@pytest.mark.parametrize("name", [name for name in ("bmc", "gai", "bni") if name in choices.LOSSES])
def test_the_contract_with_learnt_noise(name):
    own = settings(**{f"{name}_learn": True})
    check_method(lambda labels, width: choices.LOSSES[name](own, labels), "loss")


# -- methods that break a claim are found out ---------------------------------------------------------------------------


def plain(features, targets, preds, weights):
    return features.square().mean()


class Forgetful(torch.nn.Module):
    """Keeps what it needs outside its state."""

    def __init__(self):
        super().__init__()
        self.seen = 0.0

    def forward(self, features, targets, preds, weights):
        self.seen += float(features.detach().sum())
        return features.mean() * self.seen


def drawing(features, targets, preds, weights):
    return (features * torch.randn(features.shape)).mean()


def infinite(features, targets, preds, weights):
    return features.square().sum(1).sub(1e9).sqrt().mean()


def of_the_first(features, targets, preds, weights):
    return features[0].square().mean()


class Random(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.draw = torch.Generator()
        self.draw.seed()

    def forward(self, features, targets, preds, weights):
        return (features * torch.randn(features.shape, generator=self.draw)).mean()


def test_a_plain_method_passes():
    check_method(lambda labels, width: plain, "terms")


@pytest.mark.parametrize(
    ("make", "claim"),
    [
        (lambda labels, width: Forgetful(), "a resumed training ends otherwise"),
        (lambda labels, width: Random(), "the same three steps end otherwise"),
        (lambda labels, width: infinite, "three steps leave numbers that are not finite"),
        (lambda labels, width: drawing, "strength 0 differs from vanilla"),
    ],
    ids=["forgetful", "random", "infinite", "drawing from the model's generator"],
)
def test_what_breaks_a_claim_is_named(make, claim):
    with pytest.raises(AssertionError, match=f"vector: {claim}"):
        check_method(make, "terms", kinds=["vector"])


def test_a_loss_of_one_process_alone_is_found_out():
    """The spread of the errors is no mean over samples: without `whole_batch` two processes differ from one."""

    def spread(outputs, targets, weights):
        return (outputs - targets).std(correction=0)

    with pytest.raises(AssertionError, match="two processes differ from one"):
        check_method(lambda labels, width: spread, "loss", kinds=["table"])
    spread.whole_batch = True
    check_method(lambda labels, width: spread, "loss", kinds=["table"])


def test_a_slot_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="slot, kinds: expected one of loss, terms"):
        check_method(lambda labels, width: plain, "term")
    assert len(KINDS) == 5
