"""
Label probabilities inside a larger pipeline
============================================

Extractors and aligners are transformers, so a language model's label probabilities can be features among others. Here
they stand beside TF-IDF features in a ``FeatureUnion``, under heads from scikit-learn, and are cross-validated like any
other pipeline.
"""

import csv
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain
from sklearn.pipeline import FeatureUnion, make_pipeline

from skmlmc import MaxOverGenerations, PromptTemplate, StepwiseExtractor
from skmlmc.metrics import scorers
from skmlmc.plots import MethodComparisonDisplay

# %%
# The parts
# ---------
# The first messages give the demonstrations, drawn once so that all folds share the prompt and the cache.

N_FIRST = 16
with open(Path(sys.argv[0]).with_name("messages.csv"), newline="", encoding="utf-8") as file:
    header, *rows = csv.reader(file)
labels, texts = header[1:], [row[0] for row in rows]
share = np.array([row[1:] for row in rows], dtype=float) / 3  # of the three readers
prompt = PromptTemplate(
    demonstration="{text}\nThe writer feels: {answer}\n\n", answer_format="list", wording="emotions", mode="plain"
)
extractor = StepwiseExtractor(
    labels=labels, prompt=prompt, shots=12, demonstrations="balanced", memory=tempfile.mkdtemp(), random_state=0
)
extractor.fit(texts[:N_FIRST], share[:N_FIRST])
extractor.set_params(demonstrations=extractor.demonstrations_)
texts, share = texts[N_FIRST:], share[N_FIRST:]
majority = (share > 0.5).astype(int)

words = make_pipeline(TfidfVectorizer(sublinear_tf=True), TruncatedSVD(8, random_state=0))
answers = make_pipeline(extractor, MaxOverGenerations())

# %%
# Features and heads
# ------------------
# Steps become label probabilities, and these columns join those of the words. ``OneVsRestClassifier`` fits a head for
# each label, ``ClassifierChain`` also shows it the labels before. These heads take indicators, so they learn, and are
# scored on, what most readers say.

features = {
    "words": FeatureUnion([("words", words)]),
    "answers": FeatureUnion([("answers", answers)]),
    "words and answers": FeatureUnion([("words", words), ("answers", answers)]),
}
heads = {
    "logistic": OneVsRestClassifier(LogisticRegression()),
    "logistic chain": ClassifierChain(LogisticRegression()),
    "boosted trees": OneVsRestClassifier(HistGradientBoostingClassifier(max_iter=20, min_samples_leaf=3)),
}
pipelines = {"constant base rate": make_pipeline(words, OneVsRestClassifier(DummyClassifier(strategy="prior")))}
for head_name, head in heads.items():
    for name, union in features.items():
        pipelines[f"{head_name} on {name}"] = make_pipeline(union, head)

table = {"method": list(pipelines)}
for pipe in pipelines.values():
    scores = cross_validate(pipe, texts, majority, scoring=scorers(), cv=KFold(4, shuffle=True, random_state=0))
    for metric, sign in (("nll", -1), ("l1", -1), ("example_f1", 1)):  # scorers negate what is better when lower
        table.setdefault(metric, []).append(sign * scores[f"test_{metric}"].mean())
        table.setdefault(f"{metric}_std", []).append(scores[f"test_{metric}"].std())
for method, *values in zip(table["method"], table["nll"], table["l1"], table["example_f1"], strict=True):
    print(f"{method:36}" + "".join(f"{value:8.2f}" for value in values))
MethodComparisonDisplay.from_table(table)

# %%
# The model's answers help more than the words, which so few messages hardly teach. The logistic heads gain a little on
# the base rate in NLL and hardly find labels; boosted trees find more of them and are too sure of themselves, so their
# NLL is poor: an aligner behind them would be the next step.
#
# What does a head look at?
# -------------------------
# Names of features tell the columns of the answers from those of the words. A weight on the diagonal says that a label
# is more likely where the model says so.

pipe = make_pipeline(features["words and answers"], OneVsRestClassifier(LogisticRegression())).fit(texts, majority)
names = pipe[:-1].get_feature_names_out()
weights = np.array([head.coef_[0] for head in pipe[-1].estimators_])
weights = weights[:, [name.startswith("answers") for name in names]]
print("features:", *names)

figure, ax = plt.subplots(figsize=(5.6, 4.4), layout="constrained")
limit = np.abs(weights).max()
image = ax.imshow(weights, cmap="PuOr_r", vmin=-limit, vmax=limit)
ax.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
ax.set_yticks(range(len(labels)), labels)
ax.set(xlabel="the model's probability of", ylabel="head for", title="weights of the logistic heads")
figure.colorbar(image)
plt.show()

# %%
# Not the diagonal but a column stands out: the label that this model names in most of its answers is also the one whose
# probability tells messages apart, for it also speaks against other labels. A fitted head uses that; a read-out of one
# label at a time does not.
