"""Record learner-guider ε from a training loop of your own, in four extra lines.

The classifier here is a small MLP on scikit-learn's digits. A fifth of their labels were made wrong.
Run it with ``python examples/your_own_loop.py``.
"""

import tempfile

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from labelaudit import EpsilonRecorder
from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.benchmark.demo import digits


def main(epochs: int = 30) -> float:
    """Train, record, and return the AUROC of a ranking by the guider's mean probability."""
    torch.manual_seed(0)
    images, clean_labels = digits()
    noisy_labels = corrupt_symmetric(clean_labels, 0.2, num_classes=10, seed=0)
    inputs = torch.from_numpy(images).float().flatten(1) / 255
    labels = torch.from_numpy(noisy_labels)
    ids = [f"digit-{row}" for row in range(len(labels))]

    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 10))
    optimizer = torch.optim.Adam(model.parameters())
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=64, shuffle=True)

    recorder = EpsilonRecorder(tempfile.mkdtemp(prefix="epsilon-"), model)  # 1
    for epoch in range(1, epochs + 1):
        for batch, given in loader:
            loss = nn.functional.cross_entropy(model(batch), given)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            recorder.update()  # 2
        recorder.record(epoch, [(inputs, labels, ids)])  # 3

    history = recorder.history()  # 4
    # With most images labeled, ε alone ranks badly (docs/explanation/scores.md). The guider's mean
    # probability of the label over all epochs ranks better.
    score = -np.mean([recorded["guider_prob"] for _, recorded in history], axis=0)
    auroc = float(roc_auc_score(noisy_labels != clean_labels, score))
    print(f"{len(history.epochs)} epochs recorded in {history.folder}")
    print(history.frame().tail(3).to_string(index=False))
    print(f"AUROC of one minus the guider's mean probability of the label: {auroc:.3f}")
    return auroc


if __name__ == "__main__":
    main()
