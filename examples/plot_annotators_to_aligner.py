"""
From annotators to a fitted aligner
===================================

Three readers marked the emotions that they found in short messages, and they do not always agree. Their answers
become one distribution a message, a language model is asked the same question, and an aligner learns how the model's
probabilities relate to the readers' shares.
"""

import csv
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import KFold, cross_val_predict

from skmlmc import GGUFClassifier, PromptTemplate
from skmlmc.datasets import annotator_distribution
from skmlmc.plots import DistributionDisplay, MethodComparisonDisplay, ReliabilityDisplay

# %%
# The readers' answers
# --------------------
# Annotated corpora come as a long table with a row for each message and reader. A reader who marked nothing has a row
# with an empty list; one who never saw a message has no row, and counts neither for nor against its labels.
# ``annotator_distribution`` gives the share of a message's readers who chose each label, what most of them say, and
# how well they agree on a label beyond chance (Krippendorff's alpha, 1 is perfect).

folder = Path(sys.argv[0]).parent  # of this script
with open(folder / "messages.csv", newline="", encoding="utf-8") as file:
    texts = [row["text"] for row in csv.DictReader(file)]
with open(folder / "annotations.csv", newline="", encoding="utf-8") as file:
    rows = [(int(row["message"]), row["reader"], row["labels"]) for row in csv.DictReader(file)]
found = annotator_distribution([(i, reader, labels.split("; ") if labels else []) for i, reader, labels in rows])
texts = [texts[i] for i in found.documents]  # in the order of the rows of found.soft

print(f"{len(texts)} messages, {found.n_annotators.min()} to {found.n_annotators.max()} readers each")
print(f"{'label':10}{'mean share':>12}{'disagreement':>14}{'alpha':>8}")
for label, *numbers in zip(found.labels, found.soft.mean(axis=0), found.disagreement, found.agreement, strict=True):
    print(f"{label:10}{numbers[0]:12.2f}{numbers[1]:14.2f}{numbers[2]:8.2f}")

# %%
# The model's own probabilities
# -----------------------------
# Demonstrations come from the first messages. Naming them explicitly gives every fold below the same prompt, so that
# with ``memory=`` each of the other messages is decoded once, whatever is fitted on the answers.

N_FIRST = 16
prompt = PromptTemplate(
    demonstration="{text}\nThe writer feels: {answer}\n\n", answer_format="list", wording="emotions", mode="plain"
)
few_shot = GGUFClassifier(
    labels=found.labels, prompt=prompt, shots=12, demonstrations="balanced", memory=tempfile.mkdtemp(), random_state=0
)
few_shot.fit(texts[:N_FIRST], found.soft[:N_FIRST])
few_shot.set_params(demonstrations=few_shot.demonstrations_)
texts, share, majority = texts[N_FIRST:], found.soft[N_FIRST:], found.majority[N_FIRST:]
raw = few_shot.predict_proba(texts)

chosen = np.argsort(-share.sum(axis=1), kind="stable")[[0, 5, 15, -1]]  # from many labels to none
shown = {"labels": found.labels, "texts": [texts[i] for i in chosen]}
DistributionDisplay.from_predictions(share[chosen], raw[chosen], **shown).figure_.suptitle("Before: the model alone")

# %%
# Diamonds are the readers, bars the model of 135 million parameters. It has a favourite emotion and is sure of it in
# messages of all kinds, also in one where no reader sees any emotion.
#
# Fit an aligner
# --------------
# ``aligner="platt"`` learns a slope and an offset for each label from the readers' shares. To judge it, every message
# is predicted by a classifier that was fitted on others. ``cross_val_predict`` would turn a soft ``y`` into ranks, so
# the shares travel as metadata beside the majority.

folds = KFold(4, shuffle=True, random_state=0)
with config_context(enable_metadata_routing=True):
    aligned = clone(few_shot).set_params(aligner="platt").set_fit_request(distribution=True)
    proba = cross_val_predict(
        aligned, texts, majority, cv=folds, method="predict_proba", params={"distribution": share}
    )
DistributionDisplay.from_predictions(share[chosen], proba[chosen], **shown).figure_.suptitle("After: aligned by platt")

# %%
# The aligner has learnt how little the favourite means and how much the labels that the model seldom names. That need
# not help every single message: compare the distances in the titles, and count over all messages.
#
# Reliability before and after
# ----------------------------
# All labels together: each dot is a bin of probabilities of a label for a message, and on the diagonal a probability is
# the share of readers who say yes.

ReliabilityDisplay.from_predictions(
    np.column_stack([share.ravel(), share.ravel()]),
    np.column_stack([raw.ravel(), proba.ravel()]),
    labels=["before: the model", "after: platt"],
    pooled=False,
    sort=False,
)

# %%
# Before, a higher probability does not mean more readers; after, the curve rises with the diagonal. Is that also better
# than saying the same of every message? The base rates are those of the training folds, as for the aligner.

base_rate = np.empty_like(share)
for train, test in folds.split(share):
    base_rate[test] = share[train].mean(axis=0)
MethodComparisonDisplay.from_predictions(
    share, {"constant base rate": base_rate, "the model": raw, "the model + platt": proba}
)
plt.show()

# %%
# On NLL, which punishes wrong certainty, the model alone is worse than the base rates and the aligned model better. But
# with so few messages the intervals are wide and overlap: such a gain has to be confirmed on a larger corpus.
