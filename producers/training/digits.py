"""The demo's training run: a small neural network learns handwritten digits, epoch by epoch.

The data is part of scikit-learn. This is a plain loop without asyncio, which reports through
`BlockingBroadcaster`.
"""

import time
from collections.abc import Callable

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from producers.broadcaster import BlockingBroadcaster
from schemas.events import RunStatus

_BATCH = 64


def train(
    reporter: BlockingBroadcaster,
    task_id: str,
    *,
    epochs: int = 20,
    seed: int = 0,
    pause: Callable[[], object] = lambda: None,
) -> float:
    """Train, report every epoch's held-out loss and accuracy, and return the last accuracy.

    Args:
        reporter: reports the progress.
        task_id: the run's name.
        epochs: passes over the training half.
        seed: the seed of split, weights and order.
        pause: called between epochs.

    Raises:
        Unsent: Kafka does not acknowledge; the run stops.
    """
    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=0.3, random_state=seed, stratify=labels
    )
    scaler = StandardScaler().fit(train_x)
    train_x, test_x = scaler.transform(train_x), scaler.transform(test_x)
    model = MLPClassifier((32,), learning_rate_init=1e-3, random_state=seed)
    order = np.random.default_rng(seed)
    classes = np.unique(labels)
    reporter.send_training_progress(
        task_id, 0.0, RunStatus.STARTED, f"training on {len(train_y)} digits"
    )
    began = time.monotonic()
    loss = accuracy = 0.0
    for epoch in range(1, epochs + 1):
        for rows in np.array_split(order.permutation(len(train_y)), len(train_y) // _BATCH):
            model.partial_fit(train_x[rows], train_y[rows], classes=classes)
        loss = float(log_loss(test_y, model.predict_proba(test_x), labels=classes))
        accuracy = float(accuracy_score(test_y, model.predict(test_x)))
        reporter.send_training_progress(
            task_id,
            100.0 * epoch / epochs,
            RunStatus.RUNNING,
            f"epoch {epoch} of {epochs}",
            {"loss": loss, "accuracy": accuracy, "epoch": epoch},
        )
        pause()
    reporter.send_training_progress(
        task_id,
        100.0,
        RunStatus.COMPLETED,
        f"{accuracy:.1%} of {len(test_y)} unseen digits are right",
        {"final_loss": loss, "final_accuracy": accuracy, "seconds": time.monotonic() - began},
    )
    return accuracy
