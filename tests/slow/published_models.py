"""The three published models a second time, literally, from a state dict under the published key names.

Written from the papers (He et al. 2016; Hu et al. 2019, section 3; Wang et al. 2018) with elementary operations, never from
the library: every layer option (eps, momentum, padding, stride, resizing, order, place of dropout) is a number here.
`state` maps published names to tensors. In training mode batches normalise themselves, and `state`'s running statistics move.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, dropout, pad


def batch_norm(x: Tensor, state: dict, name: str, train: bool) -> Tensor:
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if train:
        n = x.numel() // x.shape[1]
        mean = x.sum((0, 2, 3)) / n
        var = ((x - mean[:, None, None]) ** 2).sum((0, 2, 3)) / n
        state[f"{name}.running_mean"] = 0.9 * state[f"{name}.running_mean"] + 0.1 * mean.detach()
        state[f"{name}.running_var"] = 0.9 * state[f"{name}.running_var"] + 0.1 * var.detach() * n / (n - 1)
    x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5) ** 0.5
    return x * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]


def conv(x: Tensor, state: dict, name: str, stride: int = 1, bias: bool = False) -> Tensor:
    """Zero padding by half the kernel."""
    weight = state[f"{name}.weight"]
    half = weight.shape[-1] // 2
    out = conv2d(pad(x, (half, half, half, half)), weight, stride=stride)
    return out + state[f"{name}.bias"][:, None, None] if bias else out


def relu(x: Tensor) -> Tensor:
    return x.clamp(min=0)


def resize_axis(x: Tensor, size: int, dim: int) -> Tensor:
    """Linear, pixels' centres at (i + 1/2) / size, edges repeated: without aligned corners."""
    old, parts = x.shape[dim], []
    for i in range(size):
        place = min(max((i + 0.5) * old / size - 0.5, 0.0), old - 1.0)
        low = int(place)
        high = min(low + 1, old - 1)
        parts.append(x.select(dim, low) * (1 - (place - low)) + x.select(dim, high) * (place - low))
    return torch.stack(parts, dim)


def resize(x: Tensor, height: int, width: int) -> Tensor:
    return resize_axis(resize_axis(x, height, 2), width, 3)


# ResNet


def max_pool(x: Tensor) -> Tensor:
    """3x3, stride 2, one pixel of -infinity around."""
    x = pad(x, (1, 1, 1, 1), value=-torch.inf)
    height, width = (x.shape[2] - 3) // 2 + 1, (x.shape[3] - 3) // 2 + 1
    shifted = [x[:, :, i : i + 2 * height - 1 : 2, j : j + 2 * width - 1 : 2] for i in range(3) for j in range(3)]
    return torch.stack(shifted).amax(0)


def residual(x: Tensor, state: dict, name: str, stride: int, train: bool) -> Tensor:
    """Bottleneck (1x1, 3x3 with the stride, 1x1) where there is a third convolution, else basic (3x3 with the stride, 3x3)."""
    first, second = (1, stride) if f"{name}.conv3.weight" in state else (stride, 1)
    out = relu(batch_norm(conv(x, state, f"{name}.conv1", first), state, f"{name}.bn1", train))
    out = batch_norm(conv(out, state, f"{name}.conv2", second), state, f"{name}.bn2", train)
    if f"{name}.conv3.weight" in state:
        out = batch_norm(conv(relu(out), state, f"{name}.conv3"), state, f"{name}.bn3", train)
    if f"{name}.downsample.0.weight" in state:
        x = batch_norm(conv(x, state, f"{name}.downsample.0", stride), state, f"{name}.downsample.1", train)
    return relu(out + x)


def resnet_blocks(images: Tensor, state: dict, prefix: str, train: bool) -> list[Tensor]:
    x = max_pool(relu(batch_norm(conv(images, state, f"{prefix}conv1", 2), state, f"{prefix}bn1", train)))
    blocks = []
    for layer in (1, 2, 3, 4):
        n = 0
        while f"{prefix}layer{layer}.{n}.conv1.weight" in state:
            x = residual(x, state, f"{prefix}layer{layer}.{n}", 2 if layer > 1 and n == 0 else 1, train)
            n += 1
        blocks.append(x)
    return blocks


def ages(images: Tensor, state: dict, train: bool) -> tuple[Tensor, Tensor]:
    """uint8 images -> ages (B, 1) and features (B, D): mean and standard deviation 0.5, ResNet, mean over the map, linear."""
    dtype = state["module.linear.weight"].dtype
    x = (images.to(dtype) / 255 - 0.5) / 0.5
    features = resnet_blocks(x, state, "module.", train)[3].mean((2, 3))
    return features @ state["module.linear.weight"].T + state["module.linear.bias"], features


# Hu et al. 2019


def up_projection(x: Tensor, size: tuple[int, int], state: dict, name: str, train: bool) -> Tensor:
    x = resize(x, *size)
    long = relu(batch_norm(conv(x, state, f"{name}.conv1"), state, f"{name}.bn1", train))
    long = batch_norm(conv(long, state, f"{name}.conv1_2"), state, f"{name}.bn1_2", train)
    short = batch_norm(conv(x, state, f"{name}.conv2"), state, f"{name}.bn2", train)
    return relu(long + short)


def depth(images: Tensor, state: dict, train: bool) -> tuple[Tensor, Tensor]:
    """Normalised images -> depth (B, 1, h, w) and the features (B, D, h, w) that FDS acts on."""

    def unit(x: Tensor, convolution: str, norm: str) -> Tensor:
        return relu(batch_norm(conv(x, state, convolution), state, norm, train))

    blocks = resnet_blocks(images, state, "module.E.", train)
    sizes = [tuple(block.shape[2:]) for block in blocks]
    last = 2 * sizes[0][0], 2 * sizes[0][1]
    x = unit(blocks[3], "module.D.conv", "module.D.bn")
    for number, size in enumerate((sizes[2], sizes[1], sizes[0], last), start=1):
        x = up_projection(x, size, state, f"module.D.up{number}", train)
    fused = [up_projection(blocks[i], last, state, f"module.MFF.up{i + 1}", train) for i in range(4)]
    fused = unit(torch.cat(fused, 1), "module.MFF.conv", "module.MFF.bn")
    features = unit(torch.cat([x, fused], 1), "module.R.conv0", "module.R.bn0")
    features = unit(features, "module.R.conv1", "module.R.bn1")
    return conv(features, state, "module.R.conv2", bias=True), features


# the BiLSTM of GLUE

WORDS = "pair_encoder._text_field_embedder.token_embedder_words.weight"
LSTM = "pair_encoder._phrase_layer._module."
HIGHWAY = "pair_encoder._highway_layer._module._layers."


def highway(x: Tensor, state: dict) -> Tensor:
    """x -> g x + (1 - g) relu(W1 x + b1), g = sigmoid(W2 x + b2), layer after layer; W1 above W2 in one matrix."""
    n = 0
    while f"{HIGHWAY}{n}.weight" in state:
        both = x @ state[f"{HIGHWAY}{n}.weight"].T + state[f"{HIGHWAY}{n}.bias"]
        width = x.shape[-1]
        gate = 1 / (1 + torch.exp(-both[..., width:]))
        x = gate * x + (1 - gate) * relu(both[..., :width])
        n += 1
    return x


def lstm_direction(x: Tensor, state: dict, suffix: str) -> Tensor:
    """One sentence (T, d) -> (T, H): gates in the order input, forget, cell, output; both biases; from zeros."""
    w_ih, w_hh = state[f"{LSTM}weight_ih{suffix}"], state[f"{LSTM}weight_hh{suffix}"]
    bias = state[f"{LSTM}bias_ih{suffix}"] + state[f"{LSTM}bias_hh{suffix}"]
    h = c = x.new_zeros(w_hh.shape[1])
    out = []
    for word in x:
        i, f, g, o = (w_ih @ word + w_hh @ h + bias).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        out.append(h)
    return torch.stack(out)


def similarity(
    tokens: Tensor, lengths: Tensor, state: dict, p: float, p_embs: float, train: bool
) -> tuple[Tensor, Tensor]:
    """Indices (B, 2, T), lengths (B, 2) -> score / 5 (B, 1) and features (B, 8 H).

    Dropout on the words after the highway, and on the states of the last layer before the maximum over true words; none
    between layers. Its masks are drawn for all sentences at once, words' first.
    """
    sentences = tokens.flatten(0, 1)
    words = highway(state[WORDS][sentences], state)
    words = dropout(words, p_embs, train)
    layers, width = 0, state[f"{LSTM}weight_hh_l0"].shape[1]
    while f"{LSTM}weight_ih_l{layers}" in state:
        layers += 1
    mask = dropout(words.new_ones(*sentences.shape, 2 * width), p, train)
    found = []
    for s, length in enumerate(lengths.flatten().tolist()):
        x = words[s, :length]
        for layer in range(layers):
            there = lstm_direction(x, state, f"_l{layer}")
            back = lstm_direction(x.flip(0), state, f"_l{layer}_reverse").flip(0)
            x = torch.cat([there, back], 1)
        found.append((x * mask[s, :length]).amax(0))
    u, v = torch.stack(found[0::2]), torch.stack(found[1::2])
    features = torch.cat([u, v, (u - v).abs(), u * v], 1)
    return features @ state["sts-b_pred_layer.weight"].T + state["sts-b_pred_layer.bias"], features
