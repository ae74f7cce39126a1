"""The loop: `run` trains, validates, resumes and tests a Regressor; its parts serve loops of one's own as well.

The one idea: a batch is `(inputs, targets, weights)`, and the loop looks at targets and weights only. One step reads
loss = criterion(pred, target, weights) + sum(strength * term(features, target, pred)).
An epoch here is what lies between two validations: one pass over the data, or a number of steps.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.data import DataLoader

from . import checkpoint
from .model import Regressor
from .runtime import Batches, Runtime, Shard, Splits, for_inference, log_to, make_loader, mix, progress, seed_all, unwrap

if TYPE_CHECKING:
    from .metrics import DepthMetrics

logger = logging.getLogger(__name__)

OPTIMIZERS = {
    "adam": lambda groups, args: torch.optim.Adam(groups, lr=args.lr, weight_decay=args.weight_decay),
    "sgd": lambda groups, args: torch.optim.SGD(groups, lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay),
}

_LARGEST_LOSS = 1e6
_SHOWN = ("mse", "l1", "gmean")  # the validation metrics in the log and in TensorBoard
_PER_IMAGE = ("rmse", "l1", "bias", "count")

# (features, targets, predictions) -> scalar, and its strength
Term = tuple[float, Callable[[Tensor, Tensor, Tensor], Tensor]]


def run(
    args,
    model: Regressor,
    splits: Splits,
    criterion: Callable[[Tensor, Tensor, Tensor], Tensor],
    evaluate: Callable,
    runtime: Runtime,
    folder: Path,
    *,
    select: str = "mse",
    terms: Iterable[Term] = (),
    renames: checkpoint.Renames = (),
    measure: Callable[..., tuple[dict, Any]] | None = None,
) -> dict:
    """Train, validate after every epoch, keep the last and the best checkpoint, and test the best.

    Args:
        args: the parsed flags of `cli.add_training_flags`.
        model: encoder, FDS (or none) and head.
        splits: training, validation and test data.
        criterion: (predictions, targets, weights) -> scalar; a module if it learns.
        evaluate: what `measure` makes metrics with an "overall" group by: (predictions, targets, weights) of a whole split.
        runtime: from `runtime.start`.
        folder: the run's folder, from `cli.run_folder`; made when training begins.
        select: the overall validation metric that chooses the best checkpoint; smaller is better.
        terms: regularisers with their strengths.
        renames: key names of published checkpoints, which are read and written.
        measure: (model, loader, runtime, evaluate, title) -> (metrics, what to keep of the predictions):
            `measure_arrays`, which is None, or `measure_pixels`.

    Returns:
        {"best_epoch", "val", "test": metrics, "predictions": {"val" | "test": what `measure` kept}}.

    Raises:
        ValueError: a checkpoint that does not fit, or a loss that is NaN or above 1e6.
    """
    measure = measure or measure_arrays
    # 1. built by the caller; the order from here on matters
    model.to(runtime.device)
    if runtime.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # 2. --pretrained loads the encoder
    if args.pretrained:
        content = checkpoint.load(args.pretrained, "--pretrained")
        checkpoint.load_model(
            model, content, renames=renames, path=args.pretrained, flag="--pretrained", encoder_only=True
        )
        logger.info("encoder loaded from %s; the head starts anew", args.pretrained)
    # 3. RRT freezes it
    if args.retrain_fc:
        model.freeze_encoder()
    # 4. the optimizer takes what is trainable, and a learning criterion as a group of its own
    groups = [{"params": [p for p in model.parameters() if p.requires_grad]}]
    if isinstance(criterion, nn.Module) and any(p.requires_grad for p in criterion.parameters()):
        criterion.to(runtime.device)
        groups.append({"params": list(criterion.parameters())})
    optimizer = OPTIMIZERS[args.optimizer](groups, args)
    scaler = torch.amp.GradScaler(runtime.device.type) if runtime.amp is torch.float16 else None
    # 5. wrapped for several GPUs or processes
    wrapped = runtime.wrap(model)
    # 6. --resume (and with --evaluate the best checkpoint of the run)
    first = vars(args).get("start_epoch", 0)
    progress_made: dict[str, Any] = {"epoch": first, "best_loss": math.inf, "best_epoch": -1, "bad_checks": 0}
    resume = _resume_path(args, folder)
    if resume is not None:
        content = checkpoint.load(resume)
        checkpoint.load_model(model, content, renames=renames, path=resume)
        if not args.evaluate:
            _continue(progress_made, content, resume, optimizer, scaler, criterion)
            if progress_made["epoch"] >= args.epochs and not (resume.parent / checkpoint.BEST).is_file():
                raise ValueError(
                    f"--resume: {resume} has no epoch left to train and no {checkpoint.BEST} beside it to test; "
                    "allow more epochs, or pass --evaluate"
                )
            _warn_of_changes(content.get("settings") or {}, _settings(args))

    make = {"workers": args.workers, "collate": splits.collate}
    shard = {"rank": runtime.rank, "world": runtime.world}
    per_rank = max(1, args.batch_size // runtime.world)
    evaluation = {
        name: make_loader(data, Shard(splits.order(data), per_rank, **shard), runtime, **make, keep_workers=True)
        for name, data in (("val", splits.val), ("test", splits.test))
    }

    # 7. --evaluate returns
    def measured(best_epoch: int) -> dict:
        found = {name: measure(wrapped, loader, runtime, evaluate, name) for name, loader in evaluation.items()}
        metrics = {name: numbers for name, (numbers, _) in found.items()}
        return {"best_epoch": best_epoch, **metrics, "predictions": {name: kept for name, (_, kept) in found.items()}}

    if args.evaluate:
        return measured(int(content.get("best_epoch", content.get("epoch", -1))))

    # 8. the loop
    _claim(args, folder, runtime)
    if resume is not None:
        _bring_best(progress_made, resume, folder, runtime)
    batches = Batches(len(splits.train), args.batch_size, seed=args.seed, steps=args.steps, **shard)  # type: ignore[arg-type]
    train_loader = make_loader(splits.train, batches, runtime, **make)
    stats = splits.train if splits.stats is None else splits.stats
    order = splits.order(stats) if splits.length else None
    stats_batches = Batches(len(stats), args.batch_size, seed=mix(args.seed, 1), order=order, **shard)  # type: ignore[arg-type]
    stats_loader = make_loader(stats, stats_batches, runtime, **make)
    with _Events(folder, progress_made["epoch"], enabled=runtime.is_main) as events:
        for epoch in range(progress_made["epoch"], args.epochs):
            if args.patience is not None and progress_made["bad_checks"] >= args.patience:
                logger.info("no improvement in %d checks: stopped early (--patience)", args.patience)
                break
            began = time.perf_counter()
            lr = args.lr * 0.1 ** sum(epoch >= milestone for milestone in args.schedule)
            for group in optimizer.param_groups:
                group["lr"] = lr
            seed_all(mix(args.seed, epoch, runtime.rank))
            _set_epoch(train_loader, batches, args.seed, epoch)
            stats_loader.generator.manual_seed(mix(args.seed, epoch, 1))
            updates_fds = model.fds is not None and epoch >= model.fds.start_update
            train_loss = train_one_epoch(
                wrapped, train_loader, criterion, optimizer, runtime, epoch=epoch, terms=terms, shares=batches.shares(),
                max_grad_norm=args.max_grad_norm, scaler=scaler, observe=updates_fds and args.fds_stats == "streaming",
                print_freq=args.print_freq,
            )
            if updates_fds:
                stats_batches.epoch = epoch
                second_pass = stats_loader if args.fds_stats == "second_pass" else None
                update_fds(wrapped, second_pass, runtime, epoch, shares=stats_batches.shares())
            metrics, _ = measure(wrapped, evaluation["val"], runtime, evaluate, "val")
            loss = metrics["overall"][select]
            if not math.isfinite(loss):
                raise ValueError(f"the validation {select} is {loss} after epoch {epoch + 1} at learning rate {lr:g}; lower it")
            is_best = loss < progress_made["best_loss"]
            progress_made["epoch"] = epoch + 1
            progress_made["bad_checks"] = 0 if is_best else progress_made["bad_checks"] + 1
            if is_best:
                progress_made.update(best_loss=loss, best_epoch=epoch)
            shown = ", ".join(f"{name} {metrics['overall'][name]:.4g}" for name in _SHOWN if name in metrics["overall"])
            logger.info(
                "epoch %d/%d: lr %.3g, train loss %.5g, val %s%s (%.1f s)", epoch + 1, args.epochs, lr, train_loss, shown,
                ", the best so far" if is_best else "", time.perf_counter() - began,
            )
            events.add(epoch, {"train_loss": train_loss, "lr": lr}, metrics["overall"])
            if runtime.is_main:
                state = {
                    **progress_made, "model": args.model, "optimizer": optimizer.state_dict(),
                    "state_dict": checkpoint.published_names(model.state_dict(), renames),
                    "settings": _settings(args),
                    "scaler": scaler.state_dict() if scaler else None,
                    "criterion": criterion.state_dict() if isinstance(criterion, nn.Module) else None,
                }
                checkpoint.save(folder, state, is_best)
            runtime.barrier()

    # 9. test the best
    best = folder / checkpoint.BEST
    checkpoint.load_model(model, checkpoint.load(best), renames=renames, path=best)
    logger.info("testing the best checkpoint, of epoch %d (val %s %.4g)",
                progress_made["best_epoch"] + 1, select, progress_made["best_loss"])
    return measured(progress_made["best_epoch"])


def train_one_epoch(
    model: nn.Module,
    loader: Iterable,
    criterion: Callable[[Tensor, Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    runtime: Runtime,
    *,
    epoch: int,
    terms: Iterable[Term] = (),
    shares: list[float] | None = None,
    max_grad_norm: float | None = None,
    scaler: torch.amp.GradScaler | None = None,
    observe: bool = False,
    print_freq: int = 100,
) -> float:
    """One epoch of training steps; returns the mean loss over the global batches.

    Args:
        loader: gives (inputs, targets, weights).
        shares: what this rank's part of each batch counts (`Batches.shares`); 1 each when None.
        max_grad_norm: gradients are scaled down to this norm; None leaves them.
        observe: collect FDS statistics from these very forward passes.
        print_freq: steps between log lines, and on an accelerator between looks at the loss.

    Raises:
        ValueError: the loss was NaN or above 1e6, with epoch, step, loss, learning rate and what to try.
    """
    model.train()
    fds = unwrap(model).fds
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    steps = len(loader)  # type: ignore[arg-type]
    look_every = 1 if runtime.device.type == "cpu" else print_freq  # reading the loss waits for the accelerator
    pending: list[Tensor] = []
    total, seen = 0.0, 0
    for step, batch in enumerate(progress(loader, steps, f"epoch {epoch + 1}", runtime)):
        inputs, targets, weights = runtime.move(batch)
        share = 1.0 if shares is None else shares[step]
        with runtime.autocast():
            preds, features = model(inputs, targets, epoch)
        preds = preds.float()
        loss = criterion(preds, targets, weights)
        for strength, term in terms:
            loss = loss + strength * term(features, targets, preds)
        loss = loss * share
        optimizer.zero_grad(set_to_none=True)
        if scaler is None:
            loss.backward()
        else:
            scaler.scale(loss).backward()
        _average_gradients(criterion, runtime)
        if scaler is not None:
            scaler.unscale_(optimizer)
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        if observe and fds is not None and share > 0:
            fds.observe(features, targets)
        pending.append(loss.detach())
        if len(pending) == look_every or step == steps - 1:
            losses = runtime.mean(torch.stack(pending)).tolist()
            for back, value in enumerate(losses):
                if not value < _LARGEST_LOSS:
                    lr = optimizer.param_groups[0]["lr"]
                    raise ValueError(
                        f"the loss is {value:g} in epoch {epoch + 1}, step {seen + back + 1} of {steps}, "
                        f"at learning rate {lr:g}; try a lower --lr, --amp none, or look for labels or inputs out of range"
                    )
            total, seen = total + sum(losses), seen + len(losses)
            pending.clear()
        if (step + 1) % print_freq == 0:
            logger.info("epoch %d, step %d/%d: train loss %.5g", epoch + 1, step + 1, steps, total / max(seen, 1))
    return total / max(seen, 1)


def _average_gradients(criterion: Callable, runtime: Runtime) -> None:
    """The gradients of a learning criterion over all ranks: DistributedDataParallel sees to those of the model only."""
    if isinstance(criterion, nn.Module):
        for parameter in criterion.parameters():
            if parameter.grad is not None:
                parameter.grad = runtime.mean(parameter.grad)


@torch.no_grad()
def update_fds(
    model: nn.Module, loader: DataLoader | None, runtime: Runtime, epoch: int, shares: list[float] | None = None
) -> None:
    """End an epoch of FDS: its statistics from a pass over `loader`, or with None from what training observed.

    The pass runs in training mode, as published (dropout acts, batches are normalised by their own statistics), but the
    running statistics of the normalisation layers stay as they are. `shares` as in `train_one_epoch`.
    """
    fds = unwrap(model).fds
    assert fds is not None
    if loader is not None:
        model.train()
        tracking = [m for m in unwrap(model).modules() if isinstance(m, _NormBase) and m.track_running_stats and m.training]
        for module in tracking:
            module.track_running_stats = False
        forward = for_inference(model)
        for step, batch in enumerate(progress(loader, len(loader), f"FDS {epoch + 1}", runtime)):
            inputs, targets, _ = runtime.move(batch)
            with runtime.autocast():
                _, features = forward(inputs)
            if shares is None or shares[step] > 0:
                fds.observe(features, targets)
        for module in tracking:
            module.track_running_stats = True
    fds.finish_epoch(epoch)


@torch.no_grad()
def predict(
    model: nn.Module, loader: DataLoader, runtime: Runtime, *, title: str = "predict"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, targets and weights of a whole data set, in its order, gathered from all ranks: float32 (N, ...) each.

    `loader` reads in the order of a `Shard`, every sample once over all ranks.
    """
    model.eval()
    forward = for_inference(model)
    parts: list[list[np.ndarray]] = [[], [], []]
    for batch in progress(loader, len(loader), title, runtime):
        inputs, targets, weights = batch
        with runtime.autocast():
            preds, _ = forward(runtime.move(inputs))
        for part, values in zip(parts, (preds, targets, weights)):
            part.append(values.float().cpu().numpy())
    shard = loader.batch_sampler
    assert isinstance(shard, Shard)
    local = (shard.indices, [np.concatenate(part) if part else None for part in parts])
    everything = [(indices, arrays) for indices, arrays in runtime.gather(local) if len(indices)]
    order = np.argsort(np.concatenate([indices for indices, _ in everything]), kind="stable")
    preds, targets, weights = (np.concatenate([arrays[i] for _, arrays in everything])[order] for i in range(3))
    return preds, targets, weights


def measure_arrays(
    model: nn.Module, loader: DataLoader, runtime: Runtime, evaluate: Callable[..., dict], title: str
) -> tuple[dict, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Metrics of a data set by `evaluate(predictions, targets, weights)`, and these three, whole."""
    arrays = predict(model, loader, runtime, title=title)
    return evaluate(*arrays), arrays


@torch.no_grad()
def measure_pixels(
    model: nn.Module, loader: DataLoader, runtime: Runtime, evaluate: Callable[[], DepthMetrics], title: str
) -> tuple[dict, dict[str, np.ndarray]]:
    """Metrics of a dense data set, accumulated image by image: no pixel is kept, whatever the size of the data set.

    Args:
        loader: gives (inputs, targets (B, 1, H, W), weights (B, 1, H, W) 0/1: which pixels count), in a `Shard`'s order.
        evaluate: makes an empty accumulator. Predictions of another size are resized to the targets' (bilinear, corners
            aligned).

    Returns:
        The metrics over all counting pixels of all ranks, and per image, in the data's order, its "rmse", "l1", "bias"
        and "count" of pixels, (N,) each.
    """
    model.eval()
    forward = for_inference(model)
    total, rows = evaluate(), []
    for inputs, targets, weights in progress(loader, len(loader), title, runtime):
        with runtime.autocast():
            preds, _ = forward(runtime.move(inputs))
        preds = preds.float()
        if preds.shape != targets.shape:
            preds = nn.functional.interpolate(preds, targets.shape[-2:], mode="bilinear", align_corners=True)
        for image in zip(preds.cpu(), targets, weights):
            one = evaluate()
            one.update(*image)
            total.merge(one)
            rows.append([one.compute()["overall"][name] for name in _PER_IMAGE])
    shard = loader.batch_sampler
    assert isinstance(shard, Shard)
    table = np.asarray(rows, dtype=np.float64).reshape(len(rows), len(_PER_IMAGE))
    everything = runtime.gather((shard.indices, table, total))
    order = np.argsort(np.concatenate([indices for indices, _, _ in everything]), kind="stable")
    table = np.concatenate([rows for _, rows, _ in everything])[order]
    whole = evaluate()
    for _, _, part in everything:
        whole.merge(part)
    return whole.compute(), dict(zip(_PER_IMAGE, table.T))


def _resume_path(args, folder: Path) -> Path | None:
    """--resume PATH, or with a bare --resume the run's own checkpoint: its best to evaluate, its last to go on from."""
    if args.resume is None:
        return None
    if args.resume:
        return Path(args.resume)
    own = folder / (checkpoint.BEST if args.evaluate else checkpoint.LAST)
    if not own.is_file() and not args.evaluate:
        logger.info("--resume: no checkpoint in %s yet, so training starts from the beginning", folder)
        return None
    return own


def _continue(progress_made: dict, content: dict, path, optimizer, scaler, criterion) -> None:
    """Take up a training where a checkpoint left it."""
    try:
        optimizer.load_state_dict(content["optimizer"])
        progress_made.update({name: type(start)(content[name]) for name, start in progress_made.items() if name in content})
        if scaler is not None and content.get("scaler"):
            scaler.load_state_dict(content["scaler"])
        if isinstance(criterion, nn.Module) and content.get("criterion"):
            criterion.load_state_dict(content["criterion"])
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:  # what other contents can end in
        raise ValueError(
            f"--resume: {path} holds no training to go on with ({error}); use it with --evaluate or --pretrained"
        ) from None
    logger.info("resumed from %s after %d epochs", path, progress_made["epoch"])


def _claim(args, folder: Path, runtime: Runtime) -> None:
    """Make the run's folder, start its log, and keep the flags in args.json."""
    if runtime.is_main:
        if folder.exists() and args.overwrite and args.resume is None:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("*.part"):  # by a process that was killed while writing
            left.unlink()
        log_to(folder)
        checkpoint.write(folder / "args.json", json.dumps(_settings(args), indent=1) + "\n")
    runtime.barrier()


def _bring_best(progress_made: dict, path: Path, folder: Path, runtime: Runtime) -> None:
    """When training goes on in another folder, the best checkpoint so far comes along, or the search for it starts anew."""
    if path.parent.resolve() == folder.resolve():
        return
    best = path.parent / checkpoint.BEST
    if not best.is_file():
        progress_made.update(best_loss=math.inf, best_epoch=-1, bad_checks=0)
    elif runtime.is_main:
        checkpoint.write(folder / checkpoint.BEST, best.read_bytes())
    runtime.barrier()  # where no epoch is left to train, every rank reads it next


def _settings(args) -> dict:
    """The flags as plain values, to be kept in the checkpoint."""
    return {name: value if isinstance(value, (int, float, str, list, type(None))) else str(value)
            for name, value in vars(args).items()}


_FREE_TO_CHANGE = {"epochs", "epoch", "max_vals", "patience", "resume", "overwrite", "evaluate", "pretrained", "store_root",
                   "store_name", "suffix", "data_dir", "workers", "print_freq", "start_epoch", "device", "cuda",
                   "steps"}  # a benchmark that has it sets it from a flag of another name, and that one is compared


def _warn_of_changes(before: dict, now: dict) -> None:
    """Say which flags differ from those the checkpoint was trained with, where that changes what is learnt."""
    for name in sorted(before.keys() & now.keys() - _FREE_TO_CHANGE):
        if before[name] != now[name]:
            logger.warning("--resume: --%s was %s and is now %s", name, before[name], now[name])


def _set_epoch(loader: DataLoader, batches: Batches, seed: int, epoch: int) -> None:
    """Tie everything random in the data to (seed, epoch): the order, the workers' draws, and the data set's own."""
    batches.epoch = epoch
    loader.generator.manual_seed(mix(seed, epoch))
    if hasattr(loader.dataset, "set_epoch"):
        loader.dataset.set_epoch(epoch)


class _Events:
    """TensorBoard events of a run, under the published tags; after a resume those of lost epochs are dropped."""

    def __init__(self, folder: Path, first_epoch: int, *, enabled: bool):
        self.writer = None
        if enabled:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(folder, purge_step=first_epoch)

    def __enter__(self) -> _Events:
        return self

    def __exit__(self, *error) -> None:
        if self.writer is not None:
            self.writer.close()

    def add(self, epoch: int, training: dict[str, float], validation: dict[str, float]) -> None:
        if self.writer is None:
            return
        for tag, value in training.items():
            self.writer.add_scalar(tag, value, epoch)
        for name in _SHOWN:
            if name in validation:
                self.writer.add_scalar(f"val_loss_{name}", validation[name], epoch)
