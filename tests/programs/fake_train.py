"""A train.py for tests of the sweep: it keeps the real one's files, and does as its flags say."""

from __future__ import annotations

import argparse
import fcntl
import json
import signal
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--store_root", type=Path)
parser.add_argument("--resume", nargs="?", const="")
parser.add_argument("--reweight", default="none")
parser.add_argument("--pretrained", default="")
parser.add_argument("--fail", action="store_true")
parser.add_argument("--hold", type=Path, help="waits until this file exists")
parser.add_argument("--table", default="")
args = parser.parse_args()

folder = args.store_root / f"run_{args.reweight}"
folder.mkdir(parents=True, exist_ok=True)
lock = open(folder / ".lock", "ab")  # noqa: SIM115  # held until the end

fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
(folder / "args.json").write_text(json.dumps({"seed": args.seed, "reweight": args.reweight, "pretrained": args.pretrained}))
with open(folder / "starts.txt", "a") as starts:
    starts.write("start\n")
if args.fail:
    print("some lines\nfake_train.py: error: --lr: told to fail", file=sys.stderr)
    sys.exit(2)
signal.signal(signal.SIGTERM, lambda *_: ((folder / "saved").write_text("step"), sys.exit(143)))
(folder / "ckpt.best.pth.tar").write_text(f"checkpoint of seed {args.seed}")
while args.hold is not None and not args.hold.exists():
    time.sleep(0.02)
numbers = {"mse": 1.0 + args.seed, "l1": 1.0, "gmean": 0.5, "count": 4}
groups = dict.fromkeys(("overall", "many", "medium", "few", "balanced"), numbers)
(folder / "metrics.json").write_text(json.dumps({"test": groups, "val": groups}))
