"""The layers of the three published models: every option, and outputs and a training step against a literal twin.

The one idea: a checkpoint whose keys and shapes fit loads without a word, so whatever its tensors do not hold (resizing,
eps, padding, strides, places of dropout, order) is pinned here, as a table and as numbers.
"""

from __future__ import annotations

import re
from types import ModuleType

import pytest
import torch
from commands import from_folder
from slow import published_models as literal
from torch import nn

from imbalanced_regression import Regressor
from imbalanced_regression.training import checkpoint
from imbalanced_regression.training.model import ScaledLinear

# -- the options -------------------------------------------------------------------------------------------------------

# He et al. 2016 as in torchvision (the stride on a bottleneck's 3x3); Hu et al. 2019; GLUE's BiLSTM. A row: where, and what.
CONV = {"kind": "Conv2d", "stride": 1, "dilation": 1, "groups": 1, "padding_mode": "zeros", "bias": False}
NORM = {"kind": "BatchNorm2d", "eps": 1e-5, "momentum": 0.1, "affine": True, "track": True}
RELU = {"kind": "ReLU"}


def conv(kernel: int, stride: int = 1, *, bias: bool = False) -> dict:
    return {**CONV, "kernel": kernel, "stride": stride, "padding": kernel // 2, "bias": bias}


RESNET50 = {
    r"conv1": conv(7, 2),
    r"maxpool": {"kind": "MaxPool2d", "kernel": 3, "stride": 2, "padding": 1, "dilation": 1, "ceil": False},
    r"layer\d\.\d\.conv[13]": conv(1),
    r"layer(1\.\d|[234]\.[1-9])\.conv2": conv(3),
    r"layer[234]\.0\.conv2": conv(3, 2),
    r"layer1\.0\.downsample\.0": conv(1),
    r"layer[234]\.0\.downsample\.0": conv(1, 2),
    r"bn1|layer\d\.\d\.(bn[123]|downsample\.1)": NORM,
    r"relu|layer\d\.\d\.relu": RELU,  # slope 0 below 0
}


def linear(inputs: int) -> dict:
    return {"kind": "Linear", "inputs": inputs, "outputs": 1, "bias": True}


AGES = {
    **{rf"encoder\.({where})": what for where, what in RESNET50.items()},
    r"encoder\.avgpool": {"kind": "AdaptiveAvgPool2d", "size": (1, 1)},
    r"head": linear(2048),
}
NYUD2 = {
    **{rf"encoder\.E\.({where})": what for where, what in RESNET50.items()},
    r"encoder\.D\.conv": conv(1),
    r"encoder\.(D|MFF)\.up\d\.conv[12]": conv(5),
    r"encoder\.(D|MFF)\.up\d\.conv1_2": conv(3),
    r"encoder\.MFF\.conv": conv(5),
    r"neck\.conv[01]": conv(5),
    r"encoder\.(D|MFF)\.(bn|up\d\.bn(1|1_2|2))|neck\.bn[01]": NORM,
    r"head": conv(5, bias=True),
}
STS_B = {
    r"encoder\.embedding": {"kind": "Embedding", "padding_idx": 0, "max_norm": None},
    r"encoder\.highway\.\d\.linear": {"kind": "Linear", "inputs": 300, "outputs": 600, "bias": True},
    r"encoder\.dropout_embs": {"kind": "Dropout", "p": 0.2},
    r"encoder\.lstm": {"kind": "LSTM", "inputs": 300, "units": 1500, "layers": 2, "bidirectional": True, "bias": True,
                       "dropout": 0.0, "projection": 0},
    r"encoder\.dropout": {"kind": "Dropout", "p": 0.2},
    r"head": {**linear(12_000), "kind": "ScaledLinear", "scale": 5, "center": 0},  # published: score / 5
}


def square(value) -> int | tuple:
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def options(module: nn.Module) -> dict:
    """What a layer does apart from its tensors."""
    kind = {"kind": type(module).__name__}
    match module:
        case nn.Conv2d():
            return {**kind, "kernel": square(module.kernel_size), "stride": square(module.stride),
                    "padding": square(module.padding), "dilation": square(module.dilation), "groups": module.groups,
                    "padding_mode": module.padding_mode, "bias": module.bias is not None}
        case nn.BatchNorm2d():
            return {**kind, "eps": module.eps, "momentum": module.momentum, "affine": module.affine,
                    "track": module.track_running_stats}
        case nn.MaxPool2d():
            return {**kind, "kernel": module.kernel_size, "stride": module.stride, "padding": module.padding,
                    "dilation": module.dilation, "ceil": module.ceil_mode}
        case nn.AdaptiveAvgPool2d():
            return {**kind, "size": module.output_size}
        case nn.Linear():
            scaled = isinstance(module, ScaledLinear)
            unit = {"scale": module.scale.item(), "center": module.center.item()} if scaled else {}
            widths = {"inputs": module.in_features, "outputs": module.out_features}
            return {**kind, **widths, "bias": module.bias is not None, **unit}
        case nn.Embedding():
            return {**kind, "padding_idx": module.padding_idx, "max_norm": module.max_norm}
        case nn.Dropout():
            return {**kind, "p": module.p}
        case nn.LSTM():
            return {**kind, "inputs": module.input_size, "units": module.hidden_size, "layers": module.num_layers,
                    "bidirectional": module.bidirectional, "bias": module.bias, "dropout": module.dropout,
                    "projection": module.proj_size}
    return kind


def published_model(name: str) -> nn.Module:
    """The model at its published size, without memory for its weights."""
    with torch.device("meta"):
        if name == "ages":
            return from_folder("agedb-dir", "resnet").make_model("resnet50")
        if name == "nyud2":
            return from_folder("nyud2-dir", "models.net").make_model("resnet50")
        models = from_folder("sts-b-dir", "models")
        encoder = models.PairEncoder(torch.empty(100, 300), train_words=False, highway_layers=2)
    return Regressor(encoder, models.make_head(encoder.feature_dim))


@pytest.mark.parametrize(("name", "table", "count"), [("ages", AGES, 126), ("nyud2", NYUD2, 181), ("sts-b", STS_B, 7)])
def test_every_layer_has_the_published_options(name, table, count):
    model = published_model(name)
    layers = {path: module for path, module in model.named_modules() if not list(module.children())}
    used = set()
    for path, module in layers.items():
        rows = [where for where in table if re.fullmatch(where, path)]
        assert len(rows) == 1, f"{path}: {rows}"
        assert options(module) == table[rows[0]], path
        used.add(rows[0])
    assert used == set(table)
    assert len(layers) == count


# -- the numbers -------------------------------------------------------------------------------------------------------


def shaken(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """Every tensor drawn so that each option shows in the output: variances near eps, and statistics a batch's own."""
    random = torch.Generator().manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            draw = torch.rand(tensor.shape, generator=random, dtype=torch.float64)
            tensor.copy_(0.2 + draw if tensor.dim() < 2 else 0.02 * (2 * draw - 1) * (3 / tensor[0].numel()) ** 0.5)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # the mean over all batches, here of one
    with torch.no_grad():
        model.train()(images)
    for module in norms:
        module.momentum = 0.1
    return model


def same_norms(model: nn.Module, state: dict, renames, at_least: int) -> None:
    """The gradients of the model's parameters are those of the twin's tensors, to 1e-12 of their norms."""
    ours = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    names = checkpoint.published_names({name: name for name in ours}, renames)
    assert len(names) == len(ours) >= at_least
    for published, name in names.items():
        expected = state[published].grad
        assert ours[name].norm().item() == pytest.approx(expected.norm().item(), rel=1e-11), name
        torch.testing.assert_close(ours[name], expected, rtol=1e-8, atol=1e-11 * max(1.0, float(expected.norm())))


def twin_state(model: nn.Module, renames) -> dict:
    """The model's tensors under the published names, copied, to be differentiated by."""
    state = checkpoint.published_names(model.state_dict(), renames)
    learns = set(checkpoint.published_names(dict(model.named_parameters()), renames))
    return {name: value.clone().requires_grad_(name in learns) for name, value in state.items()}


def same_statistics(model: nn.Module, state: dict, renames) -> None:
    moved = checkpoint.published_names(model.state_dict(), renames)
    for name in [name for name in moved if "running_" in name]:
        torch.testing.assert_close(moved[name], state[name].detach(), rtol=1e-10, atol=1e-12)


def test_the_resnet_of_ages_is_the_literal_one(monkeypatch):
    """ResNet-50, with fewer blocks so that float64 is quick, predicts, learns and tracks its statistics as the formulas say."""
    import torchvision.models.resnet as resnet

    monkeypatch.setattr("torchvision.models.get_model", lambda *_, **__: resnet.ResNet(resnet.Bottleneck, [2, 1, 1, 1]))
    folder = from_folder("agedb-dir", "resnet")
    torch.manual_seed(0)
    images = torch.randint(256, (2, 3, 40, 38), dtype=torch.uint8)
    model = shaken(folder.make_model("resnet50").double(), images.double() / 127.5 - 1)
    with torch.no_grad():
        preds, features = model.eval()(images.double() / 127.5 - 1)
        state = checkpoint.published_names(model.state_dict(), folder.PUBLISHED_TO_OURS)
        expected, expected_features = literal.ages(images, state, train=False)
    torch.testing.assert_close(preds, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(features, expected_features, rtol=1e-9, atol=1e-9)
    state, ages = twin_state(model, folder.PUBLISHED_TO_OURS), torch.tensor([[30.0], [64.0]]).double()
    loss = (model.train()(images.double() / 127.5 - 1)[0] - ages).abs().mean()
    twin = (literal.ages(images, state, train=True)[0] - ages).abs().mean()
    assert loss.item() == pytest.approx(twin.item(), rel=1e-12)
    loss.backward()
    twin.backward()
    same_norms(model, state, folder.PUBLISHED_TO_OURS, at_least=53)
    same_statistics(model, state, folder.PUBLISHED_TO_OURS)
    from imbalanced_regression.faces.resnet import normalize

    torch.testing.assert_close(normalize(images), (images.float() / 255 - 0.5) / 0.5, rtol=0, atol=1e-6)


def small_depth_model(net: ModuleType) -> Regressor:
    """The depth model behind a ResNet-18 of one block a layer and an eighth of the width."""
    from torchvision.models.resnet import BasicBlock

    def layer(inputs: int, outputs: int) -> nn.Sequential:
        shorter = nn.Sequential(nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs))
        return nn.Sequential(BasicBlock(inputs, outputs, 2, shorter))

    resnet = nn.Module()
    resnet.conv1, resnet.bn1, resnet.relu = nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
    resnet.maxpool, resnet.layer1 = nn.MaxPool2d(3, 2, 1), nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 8))
    resnet.layer2, resnet.layer3, resnet.layer4 = layer(8, 16), layer(16, 32), layer(32, 64)
    encoder = net.DepthEncoder.__new__(net.DepthEncoder)
    nn.Module.__init__(encoder)
    encoder.E, encoder.D, encoder.MFF = net.E(resnet), net.D(64), net.MFF([8, 16, 32, 64])
    return Regressor(encoder, nn.Conv2d(66, 1, 5, padding=2), None, neck=net.Refinement(66))


def test_the_depth_model_is_the_literal_one():
    """E, D, MFF and R on odd sizes: depth, features, a float64 training step and its statistics, all resizes included."""
    net = from_folder("nyud2-dir", "models.net")
    torch.manual_seed(0)
    images = torch.randn(2, 3, 44, 54, dtype=torch.float64)
    model = shaken(small_depth_model(net).double(), images)
    with torch.no_grad():
        preds, features = model.eval()(images)
        state = checkpoint.published_names(model.state_dict(), net.PUBLISHED_TO_OURS)
        expected, expected_features = literal.depth(images, state, train=False)
        narrow = small_depth_model(net)
        checkpoint.load_model(narrow, {"state_dict": state}, renames=net.PUBLISHED_TO_OURS)  # as a published file is read
        single = narrow.eval()(images.float())[0]
    largest = float(expected.abs().max())
    torch.testing.assert_close(preds, expected, rtol=0, atol=1e-10 * largest)
    torch.testing.assert_close(features, expected_features, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-5 * largest)
    state, depth = twin_state(model, net.PUBLISHED_TO_OURS), 1 + torch.rand(preds.shape, dtype=torch.float64)
    loss = ((model.train()(images)[0] - depth) ** 2).mean()
    twin = ((literal.depth(images, state, train=True)[0] - depth) ** 2).mean()
    assert loss.item() == pytest.approx(twin.item(), rel=1e-12)
    loss.backward()
    twin.backward()
    same_norms(model, state, net.PUBLISHED_TO_OURS, at_least=60)
    same_statistics(model, state, net.PUBLISHED_TO_OURS)


@pytest.mark.parametrize("highway_layers", [0, 2])
def test_the_pair_model_is_the_literal_one(highway_layers):
    """Word by word, sentence by sentence: score, features, and a float64 training step with the same dropout masks."""
    models = from_folder("sts-b-dir", "models")
    torch.manual_seed(0)
    vectors = torch.randn(20, 6, dtype=torch.float64)
    vectors[0] = 0
    drop = {"dropout": 0.3, "dropout_embs": 0.4}
    encoder = models.PairEncoder(vectors, train_words=True, d_hid=4, highway_layers=highway_layers, **drop)
    model = Regressor(encoder, models.make_head(encoder.feature_dim)).double()
    lengths = torch.tensor([[3, 5], [1, 2], [4, 4]])
    tokens = torch.randint(1, 20, (3, 2, 5)).masked_fill(torch.arange(5) >= lengths[..., None], 0)
    state = twin_state(model, models.PUBLISHED_TO_OURS)
    assert any("_highway_layer" in name for name in state) == (highway_layers > 0)
    with torch.no_grad():
        preds, features = model.eval()((tokens, lengths))  # in the unit of the score; the published model is of score / 5
        expected, expected_features = literal.similarity(tokens, lengths, state, 0.3, 0.4, train=False)
    torch.testing.assert_close(preds, 5 * expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(features, expected_features, rtol=1e-10, atol=1e-12)
    scores = torch.tensor([[0.5], [3.0], [5.0]]).double() / 5
    torch.manual_seed(1)
    loss = ((model.train()((tokens, lengths))[0] / 5 - scores) ** 2).mean()
    torch.manual_seed(1)
    twin = ((literal.similarity(tokens, lengths, state, 0.3, 0.4, train=True)[0] - scores) ** 2).mean()
    assert loss.item() == pytest.approx(twin.item(), rel=1e-12)
    loss.backward()
    twin.backward()
    state[literal.WORDS].grad[0] = 0  # the padding never learns
    same_norms(model, state, models.PUBLISHED_TO_OURS, at_least=19 + 2 * highway_layers)
