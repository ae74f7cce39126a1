"""ConR: a sample is pushed away from those which it is confused with, and pulled to those with labels near its own.

The one idea: two samples are confused when their predictions are near and their labels are not; the rarer the sample and
the farther the labels, the harder the push. Source: ConR (ICLR 2024, arXiv 2309.06651, section 3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .rows import cosines, feature_rows, label_rows, may_look, rounding


class ConR(nn.Module):
    """Mean over all rows i of L_i = -(w_i / |P_i|) sum_{j in P_i} [ s_ij - log( sum_P e^s_ip + sum_N S_in e^s_in ) ].

    Positives P_i are the other rows with |y_i - y_j| <= within, negatives N_i those beyond it whose predictions lie
    within; s is the cosine of the features over the temperature and S_in = w_i exp(push |y_i - y_n|). A row without a
    positive, or without a negative, costs 0. The weight of the rows both pushes and weighs, and is 1 without weights.

    Made for two augmented views of each sample as 2B rows (`two_views`), which give every row a positive.

    Args:
        within: labels and predictions this near count as equal, in the unit of the label, 0 or above.
        temperature: of the similarities, above 0.
        push: growth of a negative's share with the label distance, per unit of the label, 0 or above.

    Raises:
        ValueError: an argument out of range.
    """

    two_views = True

    def __init__(self, within: float = 1.0, temperature: float = 0.2, push: float = 0.01):
        super().__init__()
        if not 0 <= within < float("inf"):
            raise ValueError(f"within: expected a finite number, 0 or above, in the unit of the label, found {within}")
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature: expected a finite number above 0, for example 0.2, found {temperature}")
        if not 0 <= push < float("inf"):
            raise ValueError(f"push: expected a finite number, 0 or above, for example 0.01, found {push}")
        self.within, self.temperature, self.push = float(within), float(temperature), float(push)

    def extra_repr(self) -> str:
        return f"within={self.within:g}, temperature={self.temperature:g}, push={self.push:g}"

    def forward(self, features: Tensor, targets: Tensor, preds: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        """The term: features (B, D), targets, preds and weights (B,) or (B, 1), weights may be None -> a scalar.

        The gradient goes through the features alone.

        Raises:
            ValueError: no predictions, shapes that do not fit; NaN or infinite values, on the CPU.
        """
        features = feature_rows(features, "ConR")
        if preds is None:
            raise ValueError("ConR: preds: expected the predictions (B,) or (B, 1), found None; pass those of the same rows")
        targets = label_rows(targets, features, "ConR").detach()
        preds = label_rows(preds, features, "ConR", "preds").detach()
        with torch.autocast(features.device.type, enabled=False):
            apart = (targets[:, None] - targets).abs()
            near = apart <= self.within + rounding(targets, apart)
            confused = ~near & ((preds[:, None] - preds).abs() <= self.within)
            positive = near.fill_diagonal_(False)
            logs = (self.push * apart).to(features.dtype)
            if weights is not None:
                weights = label_rows(weights, features, "ConR", "weights").detach().to(features.dtype)
                if may_look(weights) and weights.min() < 0:
                    raise ValueError(f"ConR: weights: expected at least 0, found {weights.min():g}")
                logs = logs + weights.log()[:, None]
            # in logarithms, as push times a wide label range overflows; what is in neither set adds e^-inf
            extra = torch.where(confused, logs, -torch.inf).masked_fill_(positive, 0)
            counted = positive.any(dim=1) & confused.any(dim=1)
            shares = counted.to(features.dtype) if weights is None else torch.where(counted, weights, 0)
            return _Contrast.apply(cosines(features), positive, extra, shares, self.temperature) / len(features)


class _Contrast(torch.autograd.Function):
    """sum_i share_i ( log sum_j exp(s_ij + extra_ij) - mean over positives of s_ij ), s the (N, N) cosines over tau.

    The gradient is share_i (softmax - positive / count) / tau: two passes, where autograd would take a dozen.
    """

    @staticmethod
    def forward(ctx, cosine: Tensor, positive: Tensor, extra: Tensor, shares: Tensor, temperature: float) -> Tensor:
        used, pull = shares > 0, positive.to(cosine.dtype)
        pull /= -pull.sum(dim=1, keepdim=True).clamp(min=1)
        members = torch.add(extra, cosine, alpha=1 / temperature)
        largest = members.amax(dim=1).clamp(min=torch.finfo(members.dtype).min)  # a row that costs nothing may have no member
        members = members.sub_(largest[:, None]).exp_()
        sums = torch.where(used, members.sum(dim=1), 1)
        ctx.save_for_backward(members, pull, shares, sums)
        ctx.temperature = temperature
        loss = largest + sums.log() + torch.linalg.vecdot(pull, cosine) / temperature
        return torch.where(used, shares * loss, 0).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        members, pull, shares, sums = ctx.saved_tensors
        scale = shares * (gradient / ctx.temperature)
        slope = torch.addcmul(pull, members, (1 / sums)[:, None]).mul_(scale[:, None])
        return slope, None, None, None, None
