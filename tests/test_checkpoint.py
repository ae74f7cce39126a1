"""Checkpoints: whole or absent, read without running code, in published names too."""

from __future__ import annotations

import io
import os
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
import toy

from imbalanced_regression import files
from imbalanced_regression.training import checkpoint

PUBLISHED_TO_OURS = (("old_encoder.", "encoder."), ("linear.", "head."), ("FDS.", "fds."))


def test_a_failed_write_keeps_the_file_before(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, {"epoch": 1}, is_best=True)

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*ckpt.*No space left on device; the file before it is kept"):
        checkpoint.save(tmp_path, {"epoch": 2}, is_best=True)
    assert checkpoint.load(tmp_path / checkpoint.LAST)["epoch"] == 1
    assert checkpoint.load(tmp_path / checkpoint.BEST)["epoch"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {checkpoint.LAST, checkpoint.BEST}


@pytest.mark.parametrize("links", [True, False])
def test_a_best_checkpoint_is_written_once_and_stays_when_the_last_goes_on(tmp_path, monkeypatch, links):
    def refuse(*paths):
        raise OSError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    for epoch, is_best in ((1, True), (2, True), (3, False)):
        checkpoint.save(tmp_path, {"epoch": epoch}, is_best=is_best)
        assert checkpoint.load(tmp_path / checkpoint.LAST)["epoch"] == epoch
        assert checkpoint.load(tmp_path / checkpoint.BEST)["epoch"] == min(epoch, 2)
        assert (tmp_path / checkpoint.LAST).samefile(tmp_path / checkpoint.BEST) == (links and is_best)
    assert {path.name for path in tmp_path.iterdir()} == {checkpoint.LAST, checkpoint.BEST}


@pytest.mark.parametrize("links", [True, False])
def test_a_checkpoint_is_written_without_a_second_copy_in_memory(tmp_path, monkeypatch, links):
    """Serialised into a buffer first, the 16 MB of this state would be twice that at the least."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *paths: os.unlink(tmp_path / "none"))  # an OSError
    state = {"state_dict": {str(n): torch.full((1_000_000,), float(n)) for n in range(4)}, "epoch": 1}
    tracemalloc.start()
    try:
        checkpoint.save(tmp_path, state, is_best=True)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 1_000_000
    for name in (checkpoint.LAST, checkpoint.BEST):
        assert float(checkpoint.load(tmp_path / name)["state_dict"]["3"].sum()) == 3_000_000


@pytest.mark.parametrize("room", [0, 700, 2_000_000])
def test_a_write_that_fails_within_torchs_own_is_named_as_any_other(tmp_path, monkeypatch, room):
    """At the first byte, in the state's names and in the second of its tensors."""
    state = {"state_dict": {str(n): torch.zeros(500_000) for n in range(2)}}

    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > room:
                raise OSError(28, "No space left on device")
            return super().write(data)

    checkpoint.save(tmp_path, {"epoch": 1}, is_best=False)
    monkeypatch.setattr(files, "open", lambda path, mode: Full(path, "w"), raising=False)
    with pytest.raises(OSError, match=r"^\[Errno 28\] cannot write .*: No space left on device; the file before it is kept"):
        checkpoint.save(tmp_path, state, is_best=False)
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.LAST]
    assert checkpoint.load(tmp_path / checkpoint.LAST)["epoch"] == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"--pretrained: there is no checkpoint .*none.pth"):
        checkpoint.load(tmp_path / "none.pth", "--pretrained")


@pytest.mark.parametrize("keep", [0, 10, 400, 0.5, 0.99])
def test_a_truncated_file_is_an_error(tmp_path, keep):
    checkpoint.save(tmp_path, {"state_dict": toy.make_model().state_dict()}, is_best=False)
    path = tmp_path / checkpoint.LAST
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(ValueError, match="--resume: .*ckpt.pth.tar is truncated or no checkpoint"):
        checkpoint.load(path)


def test_text_is_no_checkpoint(tmp_path):
    (tmp_path / "a").write_text("hello")
    with pytest.raises(ValueError, match="is truncated or no checkpoint"):
        checkpoint.load(tmp_path / "a")


@pytest.mark.parametrize("content", [{"state_dict": 5}, {"state_dict": [torch.ones(1)]}, {0: torch.ones(1)}])
def test_a_file_without_tensors_by_name_is_an_error(tmp_path, content):
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match="--resume: .*odd.pt holds no state dict: expected tensors by name"):
        checkpoint.load(tmp_path / "odd.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused(tmp_path, zipped):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"state_dict": {}, "epoch": Bomb()}, tmp_path / "bomb", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r'bomb holds more than tensors .*again: torch.save\(\{"state_dict": model'):
        checkpoint.load(tmp_path / "bomb")
    (tmp_path / "raw").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="raw"):
        checkpoint.load(tmp_path / "raw")
    assert not (tmp_path / "ran").exists()


def test_numpy_scalars_load(tmp_path):
    torch.save({"state_dict": {}, "error": np.float64(1.5), "metric": np.float32(2), "epoch": np.int64(3)}, tmp_path / "a")
    content = checkpoint.load(tmp_path / "a")
    assert (content["error"], content["metric"], content["epoch"]) == (1.5, 2, 3)


@pytest.mark.parametrize("wrapper", ["", "module."])
@pytest.mark.parametrize("bare", [True, False])
def test_published_names_load(tmp_path, wrapper, bare):
    model, other = toy.make_model(seed=1), toy.make_model(seed=2)
    state = {wrapper + name: value for name, value in checkpoint.published_names(model.state_dict(), PUBLISHED_TO_OURS).items()}
    assert f"{wrapper}linear.weight" in state
    assert f"{wrapper}FDS.running_mean" in state
    torch.save(state if bare else {"epoch": 3, "state_dict": state}, tmp_path / "a")
    checkpoint.load_model(other, checkpoint.load(tmp_path / "a"), renames=PUBLISHED_TO_OURS)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_a_checkpoint_of_another_model_is_an_error(tmp_path):
    model = toy.make_model()
    state = model.state_dict()
    state["encoder.0.weight"] = torch.zeros(3, 3)
    state["strange"] = torch.zeros(1)
    del state["head.bias"]
    before = model.encoder[0].weight.clone()
    with pytest.raises(ValueError, match=r"encoder.0.weight is \(3, 3\), not \(8, 4\).*no head.bias; unknown strange"):
        checkpoint.load_model(model, {"state_dict": state}, path="x")
    assert torch.equal(model.encoder[0].weight, before)


def test_fds_in_one_of_file_and_model_does_not_keep_the_rest_from_loading():
    with_fds, without = toy.make_model(seed=1), toy.make_model(fds=False, seed=2)
    checkpoint.load_model(without, {"state_dict": with_fds.state_dict()})
    assert torch.equal(without.head.weight, with_fds.head.weight)
    other = toy.make_model(seed=3)
    checkpoint.load_model(other, {"state_dict": without.state_dict()})
    assert torch.equal(other.head.weight, with_fds.head.weight)
    assert other.fds.num_samples_tracked.sum() == 0
