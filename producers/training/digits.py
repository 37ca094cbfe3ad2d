"""The demo's training run: a small neural network learns handwritten digits, epoch by epoch.

The data are part of scikit-learn, in three parts: the network learns from the first, stops when the
second shows no more progress, and is judged once by the third. The baseline is the digit whose mean
image is nearest. This is a plain loop without asyncio, which reports through `BlockingBroadcaster`.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from producers.broadcaster import BlockingBroadcaster
from schemas.events import RunStatus

_BATCH = 64
_PATIENCE = 3
"""The epochs without progress after which the training stops."""
_PROGRESS_MIN = 0.005
"""The fall of the validation loss that counts as progress."""


def train(
    reporter: BlockingBroadcaster,
    task_id: str,
    *,
    epochs: int = 40,
    seed: int = 0,
    pause: Callable[[], object] = lambda: None,
) -> float:
    """Train until there is no more progress, report every epoch, and return the accuracy.

    Each epoch reports loss and accuracy on the validation images. The end reports those of the best
    epoch's network on images that neither training nor stopping has used, and the baseline's.

    Args:
        reporter: reports the progress.
        task_id: the run's name.
        epochs: the most passes over the training images.
        seed: the seed of split, weights and order.
        pause: called between epochs.

    Raises:
        Unsent: Kafka does not acknowledge; the run stops.
    """
    images, labels = load_digits(return_X_y=True)
    fit_x, rest_x, fit_y, rest_y = train_test_split(
        images, labels, test_size=0.4, random_state=seed, stratify=labels
    )
    valid_x, test_x, valid_y, test_y = train_test_split(
        rest_x, rest_y, test_size=0.5, random_state=seed, stratify=rest_y
    )
    classes = np.unique(labels)
    means = np.array([fit_x[fit_y == digit].mean(axis=0) for digit in classes])
    nearest = classes[np.linalg.norm(np.asarray(test_x)[:, None] - means, axis=2).argmin(axis=1)]
    baseline = float(accuracy_score(test_y, nearest))
    scaler = StandardScaler().fit(fit_x)
    fit_x, valid_x, test_x = map(scaler.transform, (fit_x, valid_x, test_x))
    model = MLPClassifier((32,), learning_rate_init=2e-3, random_state=seed)
    order = np.random.default_rng(seed)
    reporter.send_training_progress(
        task_id, 0.0, RunStatus.STARTED, f"training on {len(fit_y)} digits"
    )
    began = time.monotonic()
    best, best_loss, best_epoch = model, np.inf, 0
    for epoch in range(1, epochs + 1):
        for rows in np.array_split(order.permutation(len(fit_y)), len(fit_y) // _BATCH):
            model.partial_fit(fit_x[rows], fit_y[rows], classes=classes)
        loss, accuracy = _judged(model, valid_x, valid_y)
        if loss < best_loss - _PROGRESS_MIN:
            best, best_loss, best_epoch = deepcopy(model), loss, epoch
        reporter.send_training_progress(
            task_id,
            100.0 * epoch / epochs,
            RunStatus.RUNNING,
            f"epoch {epoch} of at most {epochs}",
            {"loss": loss, "accuracy": accuracy, "epoch": epoch},
        )
        pause()
        if epoch - best_epoch >= _PATIENCE:
            break
    loss, accuracy = _judged(best, test_x, test_y)
    reporter.send_training_progress(
        task_id,
        100.0,
        RunStatus.COMPLETED,
        f"{accuracy:.1%} of {len(test_y)} unseen digits are right, by the nearest mean image "
        f"{baseline:.1%}; no more progress after epoch {best_epoch}",
        {
            "final_loss": loss,
            "final_accuracy": accuracy,
            "baseline_accuracy": baseline,
            "best_epoch": best_epoch,
            "seconds": time.monotonic() - began,
        },
    )
    return accuracy


def _judged(model: MLPClassifier, images: Any, labels: Any) -> tuple[float, float]:
    """Return the mean loss and the accuracy."""
    loss = log_loss(labels, model.predict_proba(images), labels=model.classes_)
    return float(loss), float(accuracy_score(labels, model.predict(images)))
