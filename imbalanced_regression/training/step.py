"""The step: all that happens to a batch, from the forward pass to the update.

The one idea: what gives a gradient is one function, and all that follows (unscaling, clipping, the update) sees the gradient
that is taken. A step that needs two gradients, as BSAM's does, calls it twice and changes nothing else.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..methods.bsam import climbed
from .model import frozen_norms
from .objective import Moment
from .plan import Plan
from .randomness import random_state, set_random_state
from .runtime import absent_rank_ignored
from .session import Training


def train_step(
    training: Training, batch: tuple, moment: Moment, plan: Plan, *, fds_epoch: int, observe: bool = False
) -> Tensor:
    """All that happens to a batch: forward, objective, backward, update. Returns this rank's part of the loss.

    `batch` is (inputs, targets, weights) on the device, `fds_epoch` the number of the pass over the data; with `observe`
    FDS takes its statistics from this very forward pass.
    """
    (inputs, targets, weights), runtime = batch, training.runtime
    optimizer, scaler, objective = training.optimizer, training.scaler, training.objective
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def gradients() -> tuple[Tensor, Tensor]:
        with runtime.autocast(), absent_rank_ignored(training.wrapped, moment.share):
            outputs, features = training.wrapped(inputs, targets, fds_epoch)
        if scaler is not None:
            objective.set_loss_scale(scaler)
        loss = objective(
            outputs.float(), features, targets, weights, point=training.model.point, runtime=runtime, moment=moment
        )
        optimizer.zero_grad(set_to_none=True)
        (loss if scaler is None else scaler.scale(loss)).backward()
        objective.average_gradients(runtime)
        return loss.detach(), features.detach()

    drawn = random_state(runtime.device) if plan.ascent else None
    loss, features = gradients()
    if drawn is not None:  # BSAM: once more with the same draws, where the loss is worst near by; the batch counts once
        set_random_state(drawn, runtime.device)
        objective.eval()
        # a scaler's scale is still in these gradients: the climb is along their direction, which has none
        with climbed(parameters, plan.ascent), frozen_norms(training.model):
            gradients()
        objective.train()
    if scaler is not None:
        scaler.unscale_(optimizer)
    if plan.max_grad_norm is not None:
        nn.utils.clip_grad_norm_(parameters, plan.max_grad_norm)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    if observe and moment.share > 0:
        assert training.model.fds is not None
        training.model.fds.observe(features, targets)
    return loss
