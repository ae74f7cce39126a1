"""Every file of examples/ runs with the library it is about, is short, and what it trains is better than a constant."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
import torch
from commands import ROOT, from_folder

EXAMPLES = ROOT / "examples"
NEEDS = {
    "accelerate_loop": ["accelerate"], "boosting": ["xgboost", "lightgbm", "sklearn"], "frozen_backbone": [],
    "huggingface_trainer": ["transformers", "accelerate"], "lightning_loop": ["lightning"], "sklearn_pipeline": ["sklearn"],
    "skorch_net": ["skorch"], "timm_backbone": ["timm"],
}
# what other libraries warn of while they load and train is theirs
pytestmark = pytest.mark.filterwarnings("ignore::Warning")


@pytest.fixture
def example(request, monkeypatch):
    """The example's module, where the libraries it needs are installed."""
    for library in NEEDS[request.param]:
        pytest.importorskip(library)
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    yield importlib.import_module(request.param)
    for name in (request.param, "skewed"):
        sys.modules.pop(name, None)


def only(*names):
    return pytest.mark.parametrize("example", names, indirect=True)


def test_every_example_is_run_here_and_under_60_lines():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*NEEDS, "skewed"}
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) < 60, path


@only("accelerate_loop", "frozen_backbone", "huggingface_trainer", "lightning_loop", "skorch_net", "timm_backbone")
def test_a_loop_learns_and_leaves_its_checkpoint(example, tmp_path):
    found = example.main(str(tmp_path))
    assert found["few"]["count"]
    assert found["scores"]["bmase"] < 0.75  # 1 is always saying the median
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 1000]


@only("sklearn_pipeline", "boosting")
def test_estimators_of_other_libraries_learn(example):
    for found in example.main().values():
        assert found["scores"]["bmase"] < 0.5


@only("accelerate_loop", "lightning_loop", "huggingface_trainer")
def test_fds_is_in_the_checkpoint_that_a_loop_goes_on_from(example, tmp_path):
    """Its statistics count on where they stood: as many epochs as there were in all."""
    example.main(str(tmp_path), epochs=2)
    resume = {
        "accelerate_loop": lambda: "epoch2", "huggingface_trainer": lambda: True,
        "lightning_loop": lambda: str(next(tmp_path.rglob("*.ckpt"))),
    }[example.__name__]()
    built = []
    plain = example.regressor

    def kept(*args, **options):
        built.append(plain(*args, **options))
        return built[-1]

    example.regressor = kept
    example.main(str(tmp_path), epochs=3, resume=resume)
    (model,) = built
    count = 3 * (280 if example.__name__ == "huggingface_trainer" else 600)
    assert model.fds.num_samples_tracked.sum() == count


@only("timm_backbone")
def test_a_timm_model_is_an_encoder_of_the_face_folders(example, tmp_path):
    from imbalanced_regression import flags
    from imbalanced_regression.cli import ArgumentParser
    from imbalanced_regression.faces.flags import add_face_flags, face_plan
    from imbalanced_regression.training import checkpoint

    folder = from_folder("agedb-dir", "resnet")
    torch.manual_seed(0)
    model = folder.make_model("timm:test_byobnet")
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (2, 3, 32, 32), dtype=np.uint8))
    model.eval()
    preds, features = model(images)
    assert features.shape == (2, model.encoder.feature_dim)
    state = checkpoint.published_names(model.state_dict(), folder.PUBLISHED_TO_OURS)
    other = folder.make_model("timm:test_byobnet")
    checkpoint.load_model(other, {"state_dict": state}, renames=folder.PUBLISHED_TO_OURS)
    assert torch.equal(other.eval()(images)[0], preds)
    with pytest.raises(ValueError, match="--model timm:resnet10q: timm has no such model"):
        folder.make_model("timm:resnet10q")
    with pytest.raises(ValueError, match="--img_size: timm:vit_tiny_patch16_224 takes images of 224 pixels, found 32"):
        folder.make_model("timm:vit_tiny_patch16_224")(images)

    parser = ArgumentParser()
    flags.add(parser, {})
    add_face_flags(parser, "agedb")
    args = parser.parse_args(["--model", "timm:test_byobnet"])
    face_plan(args)
    assert flags.run_name(args, args.dataset, args.model).startswith("agedb_timm-test_byobnet_adam")
    with pytest.raises(SystemExit):
        parser.parse_args(["--model", "timm:"])
