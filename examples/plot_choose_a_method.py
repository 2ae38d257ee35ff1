"""
Choosing a method by cross-validation
=====================================

There are several ways from a model's answer to label probabilities, and none is best for every model and task. Compare
them on documents of your own: as a table of methods with a baseline, as a grid search, and as the cross-validated score
of the search itself.
"""

import csv
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline

from skmlmc import GGUFClassifier, LinearProbe, PromptTemplate, compare_methods
from skmlmc.metrics import scorers
from skmlmc.plots import MethodComparisonDisplay

# %%
# Messages and a prompt
# ---------------------
# The first messages serve as demonstrations and the others for the comparison. Since the demonstrations are given by
# name, every fold has the same prompt and ``memory=`` serves an answer to all methods and folds that need it.

N_FIRST = 16
with open(Path(sys.argv[0]).with_name("messages.csv"), newline="", encoding="utf-8") as file:
    header, *rows = csv.reader(file)
labels, texts = header[1:], [row[0] for row in rows]
share = np.array([row[1:] for row in rows], dtype=float) / 3  # of the three readers
prompt = PromptTemplate(
    demonstration="{text}\nThe writer feels: {answer}\n\n", answer_format="list", wording="emotions", mode="plain"
)
base = GGUFClassifier(
    labels=labels, prompt=prompt, shots=12, demonstrations="balanced", memory=tempfile.mkdtemp(), random_state=0
)
base.fit(texts[:N_FIRST], share[:N_FIRST])
base.set_params(demonstrations=base.demonstrations_)
texts, share = texts[N_FIRST:], share[N_FIRST:]
folds = KFold(4, shuffle=True, random_state=0)

# %%
# Methods beside each other
# -------------------------
# A plus sign puts a fitted alignment behind a method. Other classifiers of texts may join if they have
# ``predict_proba``: TF-IDF words under the same probe that reads the model's hidden states, without any language model.

words = make_pipeline(
    TfidfVectorizer(sublinear_tf=True), TruncatedSVD(16, random_state=0), LinearProbe(n_components=None)
)
probe = clone(base).set_params(method="linear_probe", layer=0.5, pooling="mean")
methods = {
    "compare to none": "compare_to_none",
    "hard predictions": "hard_predictions",
    "max over generations": "max_over_generations",
    "max over generations + platt": "max_over_generations+platt",
    "linear probe, middle layer": probe,
    "TF-IDF, no language model": words,
}
table = compare_methods(texts, share, methods, cv=folds, estimator=base)
columns = ("nll", "l1", "example_f1", "documents_per_second")
print(f"{'':30}" + "".join(f"{column:>22}" for column in columns))
for i, method in enumerate(table["method"]):
    print(f"{method:30}" + "".join(f"{table[column][i]:22.2f}" for column in columns))
MethodComparisonDisplay.from_table(table)

# %%
# The probe on hidden states and the aligner, both fitted on the readers' shares, are best on NLL and L1. Without a fit
# every read-out of this small model loses to the constant base rate on NLL. ``compare to none`` shows why one metric is
# not enough: it finds label sets well, and its probabilities are far too high. Hard predictions are punished for their
# certainty. TF-IDF learns next to nothing from so few messages, and the deviations over folds say how little they tell
# about all methods.
#
# A grid search
# -------------
# ``GGUFClassifier`` is an ordinary estimator, so ``GridSearchCV`` tries its parameters. All of these read the answers
# that are in the cache by now: nothing is decoded.

grid = {"method": ["max_over_generations", "compare_to_none"], "aligner": [None, "temperature", "platt"]}
search = GridSearchCV(base, grid, scoring=scorers(), refit="nll", cv=folds)
search.fit(texts, share)
results = search.cv_results_
print(f"{'method':24}{'aligner':14}{'NLL':>8}{'L1':>8}{'example-F1':>12}")
for i in np.argsort(results["rank_test_nll"]):
    print(f"{results['param_method'][i]:24}{results['param_aligner'][i] or 'none':14}", end="")
    print(
        f"{-results['mean_test_nll'][i]:8.2f}{-results['mean_test_l1'][i]:8.2f}{results['mean_test_example_f1'][i]:12.2f}"
    )

# %%
# The winner was chosen by its score, which therefore tends to flatter it. Cross-validating the whole search takes the
# choice into account. On so few messages the folds differ more than these two scores do.

nested = cross_validate(search, texts, share, scoring=scorers(), cv=folds)
print(f"best of the grid:  NLL {-search.best_score_:.2f}")
print(f"search, validated: NLL {-nested['test_nll'].mean():.2f}, deviation {nested['test_nll'].std():.2f} over folds")
plt.show()
