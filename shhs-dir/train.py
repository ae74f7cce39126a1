"""Train on SHHS-DIR: a night of polysomnography -> general health score 0..100.

    python train.py                                                     # vanilla
    python train.py --reweight inverse --lds --fds                      # LDS + FDS
    python train.py --retrain_fc --pretrained <ckpt> --reweight inverse # RRT
    python train.py --evaluate --resume <ckpt>
    python train.py --amp bf16 --segment 2048                           # whole nights on one GPU
    torchrun --nproc_per_node 4 train.py --amp bf16 --segment 2048      # several GPUs, one process each
    python train.py --data_dir sample --width 8 --d_hid 32 --epochs 12 --schedule 9 --lr 3e-3   # the sample, on a CPU
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
    group.add_argument("--epochs", type=int, default=80, help="passes over the training nights")
    group.add_argument("--schedule", type=int, nargs="*", default=[60], help="epochs at which the rate falls to a tenth")
    group.add_argument("--weight_decay", type=float, default=0.0, help="of adam")
    group.add_argument("--max_grad_norm", type=float, default=5, help="gradients are scaled down to this norm")
    group.add_argument("--width", type=int, default=32, help="channels of the first convolutions; 8 times as many in the last")
    group.add_argument("--d_hid", type=int, default=256, help="features of each signal, and of the hidden layers; even")
    group.add_argument(
        "--segment", type=int, default=0,
        help="30-s epochs convolved at a time, activations recomputed for the gradient: less memory, a third more time; 0 off",
    )
    parser.set_defaults(optimizer="adam", model="cnn-rnn")
    args = parser.parse_args()
    cli.check_training_flags(args)
    cli.check_least(args, width=1, d_hid=2, segment=0)
    if args.d_hid % 2:
        raise ValueError(f"--d_hid: expected an even number, found {args.d_hid}")
    if args.width > 8 and args.width % 8:
        raise ValueError(f"--width: expected at most 8 or a multiple of 8, found {args.width}")
    return args


def main() -> None:
    args = parse_args()
    # after the flags, so that --help answers at once
    from datasets import NightDataset, collate, length, read_splits
    from fds import FDS
    from loss import LOSSES
    from models import RENAMES, NightEncoder, make_head
    from utils import BINS, evaluate, sample_weights

    from imbalanced_regression import Regressor, engine, report, runtime

    here = runtime.start(args.device, args.amp, compile=args.compile, channels_last=args.channels_last)
    runtime.start_log(here)
    name = cli.run_name(args, "shhs", args.model, optimizer=args.optimizer)
    folder = cli.run_folder(args, name, here)

    nights = read_splits(args.data_dir)
    train_scores = nights["train"].scores
    weights = sample_weights(train_scores, args.reweight, args.lds, args.lds_kernel, args.lds_ks, args.lds_sigma)
    splits = runtime.Splits(
        train=NightDataset(nights["train"], weights), val=NightDataset(nights["val"]), test=NightDataset(nights["test"]),
        collate=collate, length=length,
    )

    runtime.seed_all(args.seed)
    encoder = NightEncoder(width=args.width, d_hid=args.d_hid, segment=args.segment)
    head = make_head(encoder.feature_dim, train_scores)
    model = Regressor(encoder, head, cli.build_fds(args, FDS, encoder.feature_dim))
    result = engine.run(
        args, model, splits, LOSSES[args.loss], lambda preds, scores, _: evaluate(preds, scores, train_scores), here, folder,
        select="mse" if args.loss == "mse" else "l1", renames=RENAMES,
    )
    if here.is_main:
        report.write(
            None if args.evaluate else folder, result, train_labels=train_scores, bins=BINS,
            shots=result["test"]["per_bin"]["shot"], label="general health score", window=cli.lds_window(args), title=name,
        )
    runtime.stop()


if __name__ == "__main__":
    cli.guard(main)
