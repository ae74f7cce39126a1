"""Train on STS-B-DIR: two sentences -> similarity 0..5.

    python train.py                                                     # vanilla
    python train.py --reweight inverse --lds --fds                      # LDS + FDS
    python train.py --retrain_fc --pretrained <ckpt> --reweight inverse # RRT
    python train.py --evaluate --resume <ckpt>
    torchrun --nproc_per_node 4 train.py --reweight inverse --lds       # several GPUs, one process each

Without the GloVe vectors (python glove/download_glove.py) add --glove 0; without a GPU a smaller --d_hid.
"""

from __future__ import annotations

from imbalanced_regression import choices, cli, flags, stages

DEFAULTS = {
    "loss": "mse", "lr": 1e-4, "batch_size": 128, "lds_ks": 5, "lds_sigma": 2, "fds_ks": 5, "fds_sigma": 2, "bucket_num": 50,
    "bucket_start": 0, "print_freq": 100, "workers": 0, "data_dir": "./glue_data", "seed": 111, "weight_decay": 1e-5,
    "model": "bilstm", "focal_beta": 20.0, "huber_beta": 0.3, "bmc_sigma": 1, "gai_sigma": 1, "bni_sigma": 1,
    "ranksim_strength": 3e-4,
}


def parse_args():
    parser = cli.ArgumentParser(description=__doc__)
    flags.add(parser, DEFAULTS, "sts-b-dir")
    group = parser.add_argument_group("STS-B-DIR")
    group.add_argument("--cuda", type=int, default=None, help="number of the GPU, -1 for the CPU; short for --device")
    group.add_argument("--random_seed", dest="seed", type=int, help="the same as --seed")
    group.add_argument("--val_interval", type=int, default=400, help="steps between validations (an epoch here)")
    group.add_argument("--max_vals", type=int, default=100, help="validations at most")
    group.add_argument("--patience", type=int, default=10, help="stop after so many validations without improvement")
    group.add_argument("--max_grad_norm", type=float, default=5, help="gradients are scaled down to this norm")
    group.add_argument("--glove", type=int, choices=(0, 1), default=1, help="0 learns word vectors from scratch")
    group.add_argument("--word_embs_file", default="glove/glove.840B.300d.txt", help="the GloVe vectors")
    group.add_argument("--train_words", type=int, choices=(0, 1), default=0, help="1 goes on learning the GloVe vectors")
    group.add_argument("--lowercase", type=int, choices=(0, 1), default=0, help="1 for vectors of lower-cased words (GloVe 6B)")
    group.add_argument("--max_seq_len", type=int, default=40, help="tokens kept of a sentence")
    group.add_argument("--max_word_v_size", type=int, default=30000, help="words in the vocabulary at most")
    group.add_argument("--d_word", type=int, default=300, help="width of the word vectors")
    group.add_argument("--d_hid", type=int, default=1500, help="LSTM units per direction")
    group.add_argument("--n_layers_enc", type=int, default=2, help="LSTM layers")
    group.add_argument("--n_layers_highway", type=int, default=0, help="highway layers between word vectors and LSTM")
    group.add_argument("--dropout", type=float, default=0.2, help="after the LSTM")
    group.add_argument("--dropout_embs", type=float, default=0.2, help="after the word vectors")
    group.add_argument("--suffix", default="", help="appended to the name of the run's folder")
    group.add_argument("--eval_model", default="", metavar="CKPT", help="the same as --evaluate --resume CKPT")
    args = parser.parse_args()
    if args.eval_model:
        args.evaluate, args.resume = True, args.eval_model
    if args.cuda is not None and args.device is None:
        args.device = "cpu" if args.cuda < 0 else f"cuda:{args.cuda}"
    args.steps, args.epochs = args.val_interval, args.max_vals  # the library calls them steps and epochs
    cli.check_least(args, val_interval=1, max_vals=1)
    cli.check_least(args, max_seq_len=1, max_word_v_size=1, d_word=1, d_hid=1, n_layers_enc=1, n_layers_highway=0)
    cli.check_shares(args, "dropout", "dropout_embs")
    return args, flags.plan(args)


def main() -> None:
    args, plan = parse_args()
    # after the flags, so that --help answers at once
    import tasks
    from fds import FDS
    from loss import PUBLISHED_UNIT
    from models import PUBLISHED_TO_OURS, PairEncoder, make_head
    from utils import BINS, SHOTS, evaluate, sample_weights

    from imbalanced_regression import Regressor
    from imbalanced_regression.tools import report
    from imbalanced_regression.training import Arrays, Splits
    from imbalanced_regression.training.randomness import seed_all

    with flags.started(args, "sts-b", args.model, suffix=args.suffix, default_seed=DEFAULTS["seed"]) as (ranks, folder):
        data = tasks.find_data(args.data_dir)
        pairs = tasks.read_splits(data, args.max_seq_len, lowercase=bool(args.lowercase))
        vocabulary = tasks.build_vocabulary(list(pairs.values()), args.max_word_v_size)
        train_scores = pairs["train"].scores
        labels = choices.Labels(BINS, BINS.counts(train_scores), train_scores)
        weights = flags.sample_weights(args, labels, sample_weights)
        sets = {split: tasks.PairDataset(pairs[split], vocabulary, weights if split == "train" else None) for split in pairs}
        splits = Splits(**sets, collate=tasks.collate, length=tasks.length)

        seed_all(args.seed)
        embeddings = tasks.make_embeddings(
            vocabulary, args.d_word, glove_file=args.word_embs_file if args.glove else None, seed=args.seed
        )
        encoder = PairEncoder(
            embeddings, train_words=bool(args.train_words) or not args.glove, d_hid=args.d_hid, layers=args.n_layers_enc,
            highway_layers=args.n_layers_highway, dropout=args.dropout, dropout_embs=args.dropout_embs,
            words=tasks.words_of(vocabulary),
            published_order=tasks.is_published(data, args.max_seq_len, args.max_word_v_size, bool(args.lowercase)),
        )
        model = Regressor(encoder, make_head(encoder.feature_dim), flags.build_fds(args, FDS, encoder.feature_dim))
        result = stages.train(
            args, plan, model, splits, labels, Arrays(lambda preds, scores, _: evaluate(preds, scores, train_scores)),
            folder=folder, runtime=ranks, unit=PUBLISHED_UNIT, select="mse", renames=PUBLISHED_TO_OURS,
            published=sample_weights,
        )
        if ranks.is_main:
            report.write(
                None if args.evaluate else folder, result, train_labels=train_scores, bins=BINS, shots=SHOTS,
                label="similarity score", window=flags.lds(args), title=folder.name, predictions=args.predictions,
            )


if __name__ == "__main__":
    cli.guard(main)
