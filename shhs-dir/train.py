"""Train on SHHS-DIR: a night of polysomnography -> general health score 0..100.

    python train.py                                                     # vanilla
    python train.py --reweight inverse --lds --fds                      # LDS + FDS
    python train.py --retrain_fc --pretrained <ckpt> --reweight inverse # RRT
    python train.py --evaluate --resume <ckpt>
    torchrun --nproc_per_node 4 train.py --amp bf16                     # several GPUs, one process each

Without the data: python make_sample.py, then python preprocess_shhs.py --data_dir sample --cap 4, and on a CPU
    python train.py --data_dir sample --width 8 --d_hid 32 --batch_size 8 --epochs 12 --schedule 9
"""

from __future__ import annotations

from imbalanced_regression import cli


def parse_args():
    parser = cli.ArgumentParser(description=__doc__)
    cli.add_training_flags(
        parser, loss="l1", lds_ks=5, lds_sigma=2, fds_ks=5, fds_sigma=2, bucket_num=21, bucket_start=0, lr=1e-3,
        batch_size=32, print_freq=10,
    )
    group = parser.add_argument_group("SHHS-DIR")
    group.add_argument("--epochs", type=int, default=80, help="passes over the training set")
    group.add_argument("--schedule", type=int, nargs="*", default=[60], help="epochs at which the rate falls to a tenth")
    group.add_argument("--width", type=int, default=32, help="channels of the first convolution; the last has 4 times that")
    group.add_argument("--d_hid", type=int, default=256, help="size of the epochs' and the nights' vectors, and of the MLP")
    group.add_argument("--segment", type=int, default=2048, help="30-s epochs whose activations are held at a time")
    parser.set_defaults(optimizer="adam", model="cnn-rnn")
    args = parser.parse_args()
    cli.check_training_flags(args)
    cli.check_least(args, width=1, d_hid=2, segment=1)
    if args.d_hid % 2:
        raise ValueError(f"--d_hid: expected an even number, half for each direction of the GRU, found {args.d_hid}")
    return args


def main() -> None:
    args = parse_args()
    # after the flags, so that --help answers at once
    import numpy as np
    from datasets import collate, length, read_splits
    from fds import FDS
    from loss import SCALE, make_criterion
    from models import NightEncoder, make_head
    from utils import BINS, evaluate, sample_weights

    from imbalanced_regression import Regressor
    from imbalanced_regression.tools import report
    from imbalanced_regression.training import engine, runtime

    here = runtime.start(args.device, args.amp, compile=args.compile)
    runtime.start_log(here)
    name = cli.run_name(args, "shhs", args.model, optimizer=args.optimizer)
    folder = cli.run_folder(args, name, here)

    data = read_splits(args.data_dir)
    train_scores = data["train"].scores
    data["train"].weights = sample_weights(
        train_scores, args.reweight, args.lds, args.lds_kernel, args.lds_ks, args.lds_sigma
    )
    splits = runtime.Splits(**data, collate=collate, length=length)

    runtime.seed_all(args.seed)
    encoder = NightEncoder(width=args.width, d_hid=args.d_hid, segment=args.segment)
    head = make_head(encoder.feature_dim, float(np.median(train_scores)) / SCALE)
    model = Regressor(encoder, head, cli.build_fds(args, FDS, encoder.feature_dim))
    result = engine.run(
        args, model, splits, make_criterion(args.loss),
        lambda preds, scores, _: evaluate(preds * SCALE, scores, train_scores),
        here, folder, select="mse" if args.loss == "mse" else "l1",
    )
    if here.is_main:
        report.write(
            None if args.evaluate else folder, result, train_labels=train_scores, bins=BINS, scale=SCALE,
            shots=result["test"]["per_bin"]["shot"], label="general health score", window=cli.lds_window(args), title=name,
            predictions=args.predictions,
        )
    runtime.stop()


if __name__ == "__main__":
    cli.guard(main)
