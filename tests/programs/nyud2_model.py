"""NYUD2-DIR: the model has the published names and shapes; run in its folder."""

import torch
from models.net import PUBLISHED_TO_OURS, make_model
from nyu_transform import output_size

from imbalanced_regression.training import checkpoint

with torch.device("meta"):
    model = make_model("resnet50", fds=True)
names = checkpoint.published_names(model.state_dict(), PUBLISHED_TO_OURS)
assert all(name.startswith(("module.E.", "module.D.", "module.MFF.", "module.R.")) for name in names)
shapes = {name: tuple(value.shape) for name, value in names.items()}
for name, shape in {
    "module.E.conv1.weight": (64, 3, 7, 7),
    "module.E.layer4.2.conv3.weight": (2048, 512, 1, 1),
    "module.D.conv.weight": (1024, 2048, 1, 1),
    "module.D.bn.weight": (1024,),
    "module.D.up1.conv1.weight": (512, 1024, 5, 5),
    "module.D.up1.conv1_2.weight": (512, 512, 3, 3),
    "module.D.up4.conv2.weight": (64, 128, 5, 5),
    "module.D.up4.bn1_2.running_var": (64,),
    "module.MFF.up1.conv1.weight": (16, 256, 5, 5),
    "module.MFF.up4.conv2.weight": (16, 2048, 5, 5),
    "module.MFF.conv.weight": (64, 64, 5, 5),
    "module.R.conv0.weight": (128, 128, 5, 5),
    "module.R.bn1.bias": (128,),
    "module.R.conv1.weight": (128, 128, 5, 5),
    "module.R.conv2.weight": (1, 128, 5, 5),
    "module.R.conv2.bias": (1,),
    "module.R.FDS.running_mean": (93, 128),
    "module.R.FDS.num_samples_tracked": (93,),
}.items():
    assert shapes[name] == shape, (name, shapes.get(name))
biases = [n for n in names if n.endswith("bias") and not any(part in n for part in (".bn", "downsample"))]
assert biases == ["module.R.conv2.bias"]
for bare in (False, True):  # with and without DataParallel's prefix
    read = checkpoint.state_dict_of({n.removeprefix("module.") if bare else n: v for n, v in names.items()}, PUBLISHED_TO_OURS)
    assert read.keys() == model.state_dict().keys()

# sizes: odd ones as well; RRT re-trains all of R and nothing else
assert output_size(228, 304) == (114, 152)
small = make_model("resnet18", fds=True)
for height, width in ((37, 53), (32, 44)):
    preds, features = small(torch.randn(2, 3, height, width))
    assert preds.shape == (2, 1, *output_size(height, width)) and features.shape == (2, 80, *output_size(height, width))
small.freeze_encoder()
learn = {name.split(".")[0] for name, p in small.named_parameters() if p.requires_grad}
assert learn == {"neck", "head"}
small.train()
assert not small.encoder.D.bn.training and small.neck.bn0.training
before = {name: value.clone() for name, value in small.state_dict().items()}
other = make_model("resnet18", fds=True)
published = checkpoint.published_names(before, PUBLISHED_TO_OURS)
checkpoint.load_model(other, {"state_dict": published}, renames=PUBLISHED_TO_OURS, encoder_only=True)
same = {name for name, value in other.state_dict().items() if torch.equal(value, before[name])}
assert all(name in same for name in before if name.startswith("encoder."))
assert "neck.conv0.weight" not in same and "head.weight" not in same
