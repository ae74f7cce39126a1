"""Hugging Face Trainer: FDS, LDS weights and RankSim around a BERT made on the spot; bfloat16, accumulation, checkpoints.

    pip install transformers accelerate; python examples/huggingface_trainer.py
The one idea: the forward gives the loss, and a callback ends FDS's epoch. A text's label is how often 7 occurs in it.
"""

from __future__ import annotations

import numpy as np
import torch
from skewed import regressor
from torch import nn
from transformers import BertConfig, BertModel, Trainer, TrainerCallback, TrainingArguments

from imbalanced_regression import Bins, RankSim, lds_weights, shot_metrics, weighted_mse_loss


class Imbalanced(nn.Module):
    def __init__(self, targets):
        super().__init__()
        size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
        self.bert = BertModel(BertConfig(vocab_size=20, **size), add_pooling_layer=False)
        self.model, self.terms, self.epoch = regressor(targets, nn.Identity()), [RankSim()], 0

    def forward(self, input_ids, labels=None, weights=None):
        preds, features = self.model(self.bert(input_ids).last_hidden_state.mean(1), labels, self.epoch)
        if not self.training:
            return {"logits": preds}
        self.model.fds.observe(features, labels)
        scale = self.model.head.scale
        loss = weighted_mse_loss(preds / scale, labels / scale, weights)
        return {"loss": loss + 0.01 * self.terms[0](features, labels, preds, weights), "logits": preds}


class EpochOfFDS(TrainerCallback):
    def on_epoch_begin(self, args, state, control, model, **kwargs):
        model.epoch = round(state.epoch)

    def on_epoch_end(self, args, state, control, model, **kwargs):
        model.model.fds.finish_epoch(model.epoch)


def main(folder: str = "runs/huggingface", epochs: int = 8, resume: bool = False) -> dict:
    random, labels = np.random.default_rng(0), np.repeat(np.arange(9), [60] * 4 + [8] * 5)
    texts = np.where(np.arange(12) < labels[:, None], 7, random.integers(8, 20, (len(labels), 12)))
    texts, targets = torch.tensor(random.permuted(texts, axis=1)), torch.tensor(labels[:, None], dtype=torch.float32)
    rows = zip(texts, targets, torch.tensor(lds_weights(labels))[:, None])
    data = [dict(zip(("input_ids", "labels", "weights"), row)) for row in rows]
    torch.manual_seed(0)
    model = Imbalanced(targets)
    how = TrainingArguments(folder, num_train_epochs=epochs, per_device_train_batch_size=32, gradient_accumulation_steps=2,
                            bf16=True, use_cpu=True, learning_rate=5e-3, save_strategy="epoch", report_to=[], disable_tqdm=True)
    Trainer(model, how, train_dataset=data, callbacks=[EpochOfFDS()]).train(resume_from_checkpoint=resume or None)
    preds = model.eval()(texts)["logits"].detach().numpy()
    return shot_metrics(preds, labels, labels, Bins.width(0, 9, 1), 50, 20)


if __name__ == "__main__":
    print(main()["few"])
