"""A folder's train.py, held after one of its steps until a test says go: what happens then falls where it should.

    python held.py GO STEP train.py WORDS...    # in the folder

After its optimizer's step STEP each process leaves the file GO.RANK, then waits until there is a file GO. Started anew with
GO there, as by torchrun after a rank has died, it does not wait.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from pathlib import Path

from torch.optim.optimizer import register_optimizer_step_post_hook


def hold(go: Path, step: int) -> None:
    done = [0]

    def stepped(*_) -> None:
        done[0] += 1
        if done[0] == step:
            go.with_name(f"{go.name}.{os.environ.get('RANK', '0')}").touch()
            while not go.exists():
                time.sleep(0.01)

    register_optimizer_step_post_hook(stepped)


if __name__ == "__main__":
    hold(Path(sys.argv[1]), int(sys.argv[2]))
    sys.argv = sys.argv[3:]
    sys.path[0] = os.getcwd()
    runpy.run_path(sys.argv[0], run_name="__main__")
