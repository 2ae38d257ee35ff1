"""
One label a document
====================

Where every document has exactly one class, `GGUFClassifier(multi_label=False)` is an ordinary multiclass classifier of
scikit-learn: class names in, class names out, and everything that works on classifiers works on it.
"""

import csv
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline

from skmlmc import GGUFClassifier, PromptTemplate

# %%
# Messages of one emotion
# -----------------------
# Of the messages those that most readers gave exactly one of three emotions. `y` is a list of names.

CLASSES = ["joy", "anger", "sadness"]
with open(Path(sys.argv[0]).with_name("messages.csv"), newline="", encoding="utf-8") as file:
    header, *rows = csv.reader(file)
votes = np.array([row[1:] for row in rows], dtype=float)[:, [header.index(name) - 1 for name in CLASSES]]
clear = (votes >= 2).sum(axis=1) == 1
texts = [row[0] for row, kept in zip(rows, clear, strict=True) if kept]
y = np.array(CLASSES)[votes[clear].argmax(axis=1)]
print(f"{len(texts)} messages:", {name: int((y == name).sum()) for name in CLASSES})

# %%
# Asked, and fitted on hidden states
# ----------------------------------
# `labels` gives the classes' order in the prompt and, as a mapping, their wording; it may be left out where `y` has
# names. The probe reads the middle of the network, and is fitted on the training folds.

prompt = PromptTemplate(
    instruction="Which one of these {wording} does the writer feel: {labels}?", answer_format="list", wording="emotions"
)
shared = {"labels": CLASSES, "multi_label": False, "prompt": prompt, "memory": tempfile.mkdtemp(), "random_state": 0}
asked = GGUFClassifier(**shared)
probe = GGUFClassifier(**shared, method="linear_probe", layer=0.5, pooling="mean")
words = make_pipeline(TfidfVectorizer(), LogisticRegression())
both = VotingClassifier([("probe", probe), ("words", words)], voting="soft")

METRICS = ["accuracy", "neg_log_loss", "roc_auc_ovr"]
folds = StratifiedKFold(3, shuffle=True, random_state=0)
for name, classifier in {"asked": asked, "probe": probe, "words": words, "probe and words": both}.items():
    scores = cross_validate(classifier, texts, y, cv=folds, scoring=["accuracy", "neg_log_loss", "roc_auc_ovr"])
    print(
        f"{name:16}" + "".join(f"  {key[5:]} {values.mean():6.2f}" for key, values in scores.items() if "test" in key)
    )

# %%
# Which classes are taken for which
# ---------------------------------

predicted = cross_val_predict(probe, texts, y, cv=folds)
ConfusionMatrixDisplay.from_predictions(y, predicted, cmap="Blues", colorbar=False)
plt.title("Probe, held-out messages")
plt.show()
