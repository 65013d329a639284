"""What a page says of training that went on for too long."""

import pytest

from reports.verdict import overfitting


def rows(accuracies, maps):
    return [dict(epoch=float(epoch), accuracy=accuracy, mAP=maps.get(epoch))
            for epoch, accuracy in enumerate(accuracies, 1)]


LEARNED = [0.5, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("history", [
    [],
    rows(LEARNED, {}),
    rows(LEARNED, {8: 0.6}),
    rows(LEARNED, {4: 0.6, 8: 0.61}),  # codes got better
    rows(LEARNED, {4: 0.6, 8: 0.596}),  # or nearly stayed
    rows([0.5] * 6 + [1.0] * 2, {4: 0.6, 8: 0.5}),  # learned just before the end
    rows(LEARNED[:-1] + [0.9], {4: 0.6, 8: 0.5}),  # still learning
    [dict(epoch=1.0, accuracy=None, mAP=0.5), dict(epoch=2.0, accuracy=None, mAP=0.4)],
])
def test_no_warning(history):
    assert overfitting(history) is None


def test_a_warning_names_epochs_and_map():
    sentence = overfitting(rows(LEARNED, {2: 0.6123, 4: 0.7, 6: 0.65, 8: 0.6}))
    for part in ("epoch 3 of 8", "0.7000", "epoch 4", "0.6000", "--recipe tuned"):
        assert part in sentence
