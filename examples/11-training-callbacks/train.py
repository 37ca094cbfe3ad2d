"""Trains a scikit-learn model epoch by epoch, reports it, and stops when it makes no more progress.

Usage: train.py RUN_ID

In a project of your own: pip install tapewire scikit-learn, and KAFKA_BOOTSTRAP_SERVERS names your
Kafka. `callbacks.py` beside this file has the callbacks for Keras and Lightning as well.
"""

import sys

import numpy as np
from callbacks import TrainingReport
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

try:
    from tapewire.producers import BlockingBroadcaster
except ModuleNotFoundError:  # in a checkout of Tapewire
    from producers import BlockingBroadcaster

EPOCHS = 20


def train(run_id: str) -> float:
    """Train, report each epoch, and return the accuracy on unseen images."""
    images, labels = load_digits(return_X_y=True)
    fit_x, test_x, fit_y, test_y = train_test_split(images / 16, labels, random_state=0)
    model = SGDClassifier(loss="log_loss", random_state=0)
    best, accuracy = np.inf, 0.0
    with BlockingBroadcaster() as reporter, TrainingReport(run_id, reporter) as report:
        for epoch in range(1, EPOCHS + 1):
            model.partial_fit(fit_x, fit_y, classes=np.unique(labels))
            loss = log_loss(test_y, model.predict_proba(test_x))
            accuracy = model.score(test_x, test_y)
            report.epoch(epoch, EPOCHS, {"loss": loss, "accuracy": accuracy})
            if loss > best - 0.001:
                break
            best = loss
    return accuracy


if __name__ == "__main__":
    print(f"{train(sys.argv[1]):.1%} of the unseen digits are right")
