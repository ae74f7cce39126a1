"""LDS weights where torch and scipy are not installed: any import of them fails, as it would there."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

ABSENT = {"torch", "torchvision", "scipy", "pandas"}


class NotInstalled(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


sys.meta_path.insert(0, NotInstalled())

before = set(sys.modules)


def loaded_since() -> set[str]:
    """The packages beyond Python's own that were loaded since then: what takes long to start is what is loaded."""
    return {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)


import imbalanced_regression  # noqa: E402  # after the blockade

if (found := loaded_since()) != {"imbalanced_regression"}:
    sys.exit(f"before a name is used the package has loaded {found}")
if (modules := {name for name in sys.modules if name.startswith("imbalanced_regression.")}):
    sys.exit(f"before a name is used the package has loaded its own {modules}")

from imbalanced_regression import lds_weights as _first  # noqa: E402, F401

if (found := loaded_since()) != {"imbalanced_regression", "numpy"}:
    sys.exit(f"LDS weights have loaded {found}")

from imbalanced_regression import Bins, label_density, lds_weights, lds_weights_joint, shot_metrics  # noqa: E402

labels = [1, 2, 2, 3, 9.5]
for kernel in ("gaussian", "triang", "laplace"):
    for boundary in ("renormalize", "zeros", "reflect"):
        lds_weights(labels, Bins.uniform(0, 10, 20), kernel=kernel, boundary=boundary)
lds_weights(labels)
label_density(labels)
lds_weights_joint([[1, 2], [2, 2], [3, 1]])
shot_metrics([1], [2], [2])
try:
    imbalanced_regression.FDS  # noqa: B018  # that it needs torch is said by Python itself
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
else:
    sys.exit("FDS was imported without torch, so the blockade does not hold")
if loaded := ABSENT & set(sys.modules):
    sys.exit(f"loaded {loaded}")
