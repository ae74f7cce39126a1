"""NYUD2-DIR: writes a checkpoint as published, with numpy scalars, into the file it is given; run in its folder."""

import sys

import numpy as np
import torch
from models.net import PUBLISHED_TO_OURS, make_model

from imbalanced_regression.training import checkpoint

torch.manual_seed(0)
state = checkpoint.published_names(make_model("resnet18", fds=True).state_dict(), PUBLISHED_TO_OURS)
torch.save({"state_dict": state, "epoch": 7, "error": np.float64(1.3), "metric": {"RMSE": np.float32(1.3)}}, sys.argv[1])
