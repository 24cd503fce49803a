"""Writes cases.json beside it: what scipy and scikit-learn give for metrics at their edges.

Needs scipy 1.17.1 and scikit-learn 1.9.1. What is not a finite number is a text: "nan", "inf", "-inf"; an expected "nan" stands
for a score that is not defined, "error" for an exception.
"""

import json
import math
import os
import warnings

import numpy as np
from scipy import special, stats
from sklearn import metrics

warnings.filterwarnings("ignore")
here = os.path.dirname(os.path.abspath(__file__))
nan, inf = math.nan, math.inf
F32 = lambda values: [float(value) for value in np.array(values, dtype=np.float32)]

rng = np.random.default_rng(7)
NOISE = [float(f"{value:.6g}") for value in rng.normal(size=40)]
OTHER = [float(f"{value:.6g}") for value in rng.normal(size=40)]
line = lambda scale, shift=0.0: [shift + scale * value for value in [1.0, 2.0, 4.0, 3.0]]

PAIRS = {
    "plain": (line(1.0), [1.0, 3.0, 2.0, 5.0]),
    "noise": (NOISE, OTHER),
    "tied": ([1.0, 1.0, 2.0, 2.0, 3.0], [5.0, 5.0, 5.0, 1.0, 1.0]),
    "two": ([0.1, 0.7], [3.0, -2.0]),
    "one": ([1.0], [2.0]),
    "none": ([], []),
    "of different lengths": ([1.0, 2.0], [1.0, 2.0, 3.0]),
    "constant": ([0.1] * 10, NOISE[:10]),
    "constant 3": ([0.1] * 3, NOISE[:3]),
    "constant on the other side": (NOISE[:7], [1e300] * 7),
    "constant on both sides": ([0.3] * 6, [0.7] * 6),
    "constant but for one": ([1.0] * 9 + [1.0 + 1e-9], NOISE[:10]),
    "tiny": (line(1e-200), line(1e-180)),
    "tiny beside plain": (line(1e-300), [1.0, 3.0, 2.0, 5.0]),
    "subnormal": (line(1e-320), [1.0, 3.0, 2.0, 5.0]),
    "huge": (line(1e200), [-1e250, 2e250, 3e250, 1e250]),
    "huge beside tiny": (line(1e300), line(1e-300)),
    "far from zero": (line(1.0, 1e9), [1.0, 3.0, 2.0, 5.0]),
    "NaN": ([1.0, nan, 3.0], [1.0, 2.0, 3.0]),
    "infinite": ([1.0, inf, 3.0, -inf], [1.0, 5.0, 3.0, 2.0]),
    "infinite and tied": ([1.0, inf, inf, -inf], [1.0, 5.0, 3.0, 2.0]),
}
BINARY = {
    "plain": ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]),
    "noise": (NOISE, [int(value > 0.3) for value in OTHER]),
    "constant": ([0.1] * 6, [0, 1, 0, 1, 1, 0]),
    "tied": ([0.5, 0.1, 0.5, 0.7, 0.3, 0.5], [0, 0, 1, 1, 0, 1]),
    "zeros of both signs": ([-0.0, 0.0, -0.0], [1, 0, 1]),
    "tiny": ([1e-320, 2e-320, 0.0, 5e-324], [0, 1, 0, 1]),
    "huge": ([1e308, -1e308, 1.7e308, 1e308], [0, 0, 1, 1]),
    "one side": ([0.1, 0.2], [1, 1]),
    "none": ([], []),
    "NaN": ([0.1, nan], [0, 1]),
    "infinite": ([0.1, inf, -inf], [0, 1, 0]),
}
VALUES = {
    "plain": ([3.0, -0.5, 2.0, 7.0], [2.5, 0.0, 2.0, 8.0]),
    "noise": (NOISE, OTHER),
    "constant values": ([1.0, 2.0, 3.0], [0.1, 0.1, 0.1]),
    "constant values that are met": ([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]),
    "constant predictions": ([0.1, 0.1, 0.1], [1.0, 2.0, 3.0]),
    "one": ([1.0], [2.0]),
    "none": ([], []),
    "of different lengths": ([1.0, 2.0], [1.0]),
    "tiny": ([1e-30, 3e-30, 2e-30], [1e-30, 2e-30, 4e-30]),
    "subnormal": ([1e-44, 3e-44, 2e-44], [1e-44, 2e-44, 4e-44]),
    "huge": ([1e38, 3e38, 2e38], [1e38, -2e38, 3e38]),
    "far from zero": ([16777216.0, 16777218.0, 16777220.0], [16777216.0, 16777220.0, 16777218.0]),
    "NaN predicted": ([1.0, nan], [1.0, 2.0]),
    "infinite predicted": ([1.0, inf], [1.0, 2.0]),
    "NaN to predict": ([1.0, 2.0], [nan, 2.0]),
}
LOGITS = {
    "plain": ([[2.0, 0.0, 0.0], [0.0, 2.0, 0.5], [0.25, 0.0, 2.0], [1.0, 0.0, 0.0]], [1, 1, 2, 0]),
    "noise": ([list(row) for row in np.array(NOISE[:36]).reshape(12, 3)], [0, 1, 2, 2, 1, 0, 0, 0, 1, 1, 2, 0]),
    "constant": ([[0.1, 0.1], [0.1, 0.1], [0.1, 0.1]], [0, 1, 1]),
    "tiny": ([[1e-40, 2e-40], [3e-40, 1e-40]], [0, 1]),
    "huge": ([[1e38, -1e38], [3e38, 0.0], [-2e38, 1e38]], [0, 0, 1]),
    "huge and wrong": ([[1e38, -1e38], [0.0, 3e38]], [1, 0]),
    "far apart": ([[1000.0, 0.0], [0.0, 0.0]], [1, 0]),
    "one class": ([[1.0], [2.0]], [0, 0]),
    "without a score for another class": ([[1.0, -inf], [-inf, 0.5], [0.5, 0.25]], [0, 1, 1]),
    "without a score for the class": ([[1.0, -inf], [0.0, 0.5]], [1, 0]),
    "without any score": ([[-inf, -inf], [0.0, 1.0]], [0, 1]),
    "infinite": ([[inf, 0.0], [0.0, 1.0]], [0, 1]),
    "NaN": ([[nan, 0.0], [0.0, 1.0]], [1, 1]),
    "none": ([], []),
}
CLASSES = {
    "plain": ([0, 2, 1, 0, 0, 1], [0, 1, 2, 0, 1, 2]),
    "all right": ([1, 1, 1], [1, 1, 1]),
    "all wrong": ([0, 0, 0], [1, 1, 1]),
    "none": ([], []),
    "of different lengths": ([0, 1], [0]),
}


def attempt(f):
    try:
        return float(f())
    except (ValueError, ZeroDivisionError, IndexError):
        return "error"


def cross_entropy(logits, labels):
    if not labels:
        raise ValueError("there are no rows")
    rows = special.log_softmax(np.array(logits), axis=1)
    return -np.mean([row[label] for row, label in zip(rows, labels)])


def auc(logits, labels):
    # By the log-odds of a class, which rank as its probability does, but do not round to 0 or 1.
    logits = np.array(logits)
    if logits.shape[1] < 2 or len(set(labels)) < 2:
        return nan
    if np.isnan(special.softmax(logits, axis=1)).any():
        raise ValueError("a row has no probabilities")
    areas = []
    for label in sorted(set(labels)):
        odds = logits[:, label] - special.logsumexp(np.delete(logits, label, axis=1), axis=1)
        # Infinite odds keep their rank; scikit-learn refuses them.
        areas.append(metrics.roc_auc_score([int(found == label) for found in labels], np.nan_to_num(odds)))
    return np.mean(areas)


def r2(predicted, values):
    # By itself scikit-learn says 1 or 0 where all values are the same; `force_finite` says that it is not defined.
    found = metrics.r2_score(values, predicted, force_finite=False)
    return found if math.isfinite(found) else nan


def plain(value):
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else {inf: "inf", -inf: "-inf"}.get(value, "nan")


def main():
    done = []

    def case(metric, name, a, b, f):
        done.append({"metric": metric, "name": name, "a": plain(a), "b": plain(b), "expected": plain(attempt(f))})

    for name, (x, y) in PAIRS.items():
        case("pearson", name, x, y, lambda: stats.pearsonr(x, y).statistic)
        case("spearman", name, x, y, lambda: stats.spearmanr(x, y).statistic)
    for name, (scores, positive) in BINARY.items():
        case("binary_auc", name, scores, positive, lambda: metrics.roc_auc_score(positive, scores))
    for name, (predicted, values) in VALUES.items():
        predicted, values = F32(predicted), F32(values)
        case("mean_squared_error", name, predicted, values, lambda: metrics.mean_squared_error(values, predicted))
        case("mean_absolute_error", name, predicted, values, lambda: metrics.mean_absolute_error(values, predicted))
        case("r2", name, predicted, values, lambda: r2(predicted, values))
    for name, (logits, labels) in LOGITS.items():
        logits = [F32(row) for row in logits]
        case("cross_entropy", name, logits, labels, lambda: cross_entropy(logits, labels))
        case("perplexity", name, logits, labels, lambda: np.exp(cross_entropy(logits, labels)))
        case("auc", name, logits, labels, lambda: auc(logits, labels))
    for name, (predicted, labels) in CLASSES.items():
        case("accuracy", name, predicted, labels, lambda: metrics.accuracy_score(labels, predicted))
        case("macro_f1", name, predicted, labels, lambda: metrics.f1_score(labels, predicted, average="macro"))
    with open(os.path.join(here, "cases.json"), "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(map(json.dumps, done)) + "\n]\n")
    for entry in done:
        print(entry["metric"], "|", entry["name"], "|", entry["expected"])


if __name__ == "__main__":
    main()
