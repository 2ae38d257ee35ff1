"""
Documents on a dask cluster
===========================

The same call as on one machine, inside ``joblib.parallel_config(backend="dask")``. Each worker reads the model from its
own disk (or from the hub, with ``model="hf:owner/repo/file.gguf"``); documents go out and probabilities come back, and
the process that calls writes the cache. Documents of a worker that is lost are done again by the others.

Run it with ``pip install "skmlmc[dask,demo]"``. For a real cluster give ``Client`` the scheduler's address, one worker
process a machine or socket, ``--nthreads 1``, and ``OMP_NUM_THREADS`` set to the cores that the worker may use.
"""

import joblib
from dask.distributed import Client, LocalCluster

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
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster):
        with joblib.parallel_config(backend="dask"):
            probabilities = classifier.predict_proba(TEXTS)
    for text, row in zip(TEXTS, probabilities, strict=True):
        print(text, dict(zip(classifier.labels_, row.round(2).tolist(), strict=True)))


if __name__ == "__main__":
    main()
