"""
Documents on a ray cluster
==========================

The same call as on one machine, inside ``joblib.parallel_config(backend="ray")``. Each worker reads the model from its
own disk (or from the hub, with ``model="hf:owner/repo/file.gguf"``); documents go out and probabilities come back, and
the process that calls writes the cache.

Run it with ``pip install "skmlmc[ray,demo]"``. For a real cluster call ``ray.init(address="auto")``. Ray sets
``OMP_NUM_THREADS`` of a task to the processors that the task asked for: one, unless told otherwise.
"""

import joblib
import ray
from ray.util.joblib import register_ray

from skmlmc import GGUFClassifier, PromptTemplate

DEMONSTRATIONS = [
    ("My sister called out of nowhere, we laughed for an hour.", ["joy", "surprise"]),
    ("Meeting moved to three.", []),
    ("They charged me twice and hung up on me.", ["anger"]),
    ("He forgot my birthday again.", ["sadness", "anger"]),
    ("The garden looks lovely this morning.", ["joy"]),
    ("Our old dog did not wake up today.", ["sadness"]),
]
TEXTS = [
    "We won the cup, I still cannot believe it!",
    "They cancelled the last train and nobody told us.",
    "I keep listening to her old messages.",
    "The parcel arrived, thanks.",
]


def main():
    classifier = GGUFClassifier(
        labels=["anger", "joy", "sadness", "surprise"],
        demonstrations=DEMONSTRATIONS,
        prompt=PromptTemplate(mode="plain", answer_format="list"),
        memory="cluster-cache",
    ).fit()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    register_ray()
    with joblib.parallel_config(backend="ray", n_jobs=2):
        probabilities = classifier.predict_proba(TEXTS)
    ray.shutdown()
    for text, row in zip(TEXTS, probabilities, strict=True):
        print(text, dict(zip(classifier.labels_, row.round(2).tolist(), strict=True)))


if __name__ == "__main__":
    main()
