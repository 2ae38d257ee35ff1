"""
How a model answers, step by step
=================================

Asked for all labels that fit, a language model writes one after the other. Each time it is about to start a label it
has a distribution over all of them: how sure is it, does the runner-up come next, in which order do labels come, and
what does the model look at? ``skmlmc.analysis`` gives the tables and ``skmlmc.plots`` the figures.
"""

import csv
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skmlmc import PromptTemplate, StepwiseExtractor
from skmlmc.analysis import accuracy_by_step, answer_lengths, answer_order, attention_to_labels, second_ranked
from skmlmc.plots import SpikinessDisplay, StepsDisplay


def print_columns(table):
    print("".join(f"{name:>20}" for name in table))
    for row in zip(*table.values(), strict=True):
        print("".join(f"{value:20.2f}" if isinstance(value, float) else f"{value!s:>20}" for value in row))


# %%
# Let the model answer
# --------------------
# Demonstrations are drawn from the first messages; the steps are those of the answers about the others.

with open(Path(sys.argv[0]).with_name("messages.csv"), newline="", encoding="utf-8") as file:
    header, *rows = csv.reader(file)
labels, texts = header[1:], [row[0] for row in rows]
share = np.array([row[1:] for row in rows], dtype=float) / 3  # of the three readers
prompt = PromptTemplate(
    demonstration="{text}\nThe writer feels: {answer}\n\n", answer_format="list", wording="emotions", mode="plain"
)
mixed = ["love", "anger", "surprise", "joy", "fear", "sadness"]  # the alphabet and the prompt can be told apart
settings = {"shots": 8, "demonstrations": "balanced", "memory": tempfile.mkdtemp(), "random_state": 0}
extractor = StepwiseExtractor(labels=labels, label_order=mixed, prompt=prompt, **settings)
extractor.fit(texts[:16], share[:16])
texts, share = texts[16:], share[16:]
steps = extractor.transform(texts)
print("steps:", steps.shape, "= (messages, steps, labels and none)")
print_columns(answer_lengths(steps))

# %%
# One answer
# ----------
# The longest one. Columns are steps, and the numbers of a column sum to 100. Frames are the answer, diamonds what the
# readers said. A label that was said already is not said again, even where it is the most probable one. Once it has
# begun, this small model finds it hard to stop, and it hardly ever considers "none" at the first step.

longest = int(np.argmax(np.isfinite(steps[:, :, 0]).sum(axis=1)))
StepsDisplay.from_predictions(steps[[longest]], labels=labels, y_true=share[longest], text=texts[longest])

# %%
# How sure is it?
# ---------------
# A distribution is spiky where one label has nearly all of the mass. Larger models are spiky at every step (Ma et al.,
# EMNLP 2025). This one is not: at the first step its entropy is close to that of no preference at all, and it becomes
# surer later, when labels are used up and a row of them is being continued.

SpikinessDisplay.from_predictions(steps)

# %%
# Runner-up, order of the labels, attention
# -----------------------------------------
# Is the label ranked second the next one? Are first labels right more often than later ones? Do answers follow the
# alphabet, or the order in which the prompt names the labels? And where do later labels look, averaged over heads and
# layers? The last table is of the first few messages only.

runner_up = second_ranked(steps, by_step=False)
order = answer_order(steps, labels, mixed)
attention = attention_to_labels(extractor, texts[:8], by_label=False)
for table in (runner_up, accuracy_by_step(steps, share), order, attention):
    print_columns(table)

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 2.9), layout="constrained")
never = runner_up["not_next"][0] * runner_up["never_generated"][0]
left.barh(["is next", "comes later", "never comes"], [runner_up["next"][0], runner_up["not_next"][0] - never, never])
left.set(title="the label ranked second", xlabel="share of the steps")
middle.barh(order["order"], order["share"])
middle.plot(order["by_chance"], order["order"], "kD")
middle.set(title="order of the labels in an answer", xlabel="share of the answers (diamonds: by chance)")
right.barh(attention["target"], attention["per_token"])
right.set(title="where a later label looks", xlabel="attention per token")
for ax in (left, middle, right):
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# In this model the runner-up mostly does come next, unlike in the larger ones of the paper: long answers list labels
# until few are left. The first labels agree best with the readers, and labels late in a long answer are mostly wrong,
# so the length of an answer is no evidence that a message has many emotions. Answers go against the order of the prompt
# more often than chance would have it. Token for token, a later label looks at an earlier one much more than at the
# message; the prompt gets most attention in total because it is long. That fits a model which continues its list more
# than it reads the text, though attention alone does not prove it.
