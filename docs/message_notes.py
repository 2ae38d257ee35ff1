"""Why messages come and what to do, by file of the package or by room (for the files that have no note of their own).

Each note is a title, the reason, and the remedy. ``docs/message_page.py`` makes sections of them, in this order.
"""

FILE_AGAIN = "Download the file again and compare its checksum, or convert the model again with a current llama.cpp."

NOTES = {
    "_utils/checks.py": (
        "Texts, labels and simple parameters",
        "What you pass is looked at before a model is loaded: texts are one sequence of str, labels are different from "
        "each other for a reader and for the tokenizer, numbers are in their range.",
        "The message names the parameter, the value that came and what would be right. For a table give the column of "
        "texts; for very long label names give a short wording, `labels={name: wording}`.",
    ),
    "_utils/arrays.py": (
        "Targets, probabilities and the arrays between steps",
        "Columns are matched by their names wherever there are any, and by place only where there are none: a guess "
        "would exchange labels without a word. Shares of annotators lie between 0 and 1.",
        "Rename or select columns as the message says, leave documents out that nobody annotated, and give a read-out "
        "the array that it reads: steps to `MaxOverGenerations`, pairs to `BradleyTerry`.",
    ),
    "_utils/classes.py": (
        "One class a document",
        "With `multi_label=False` and a one-dimensional `y`, classes are names of one type, spelt as in `labels`. "
        "Several wrappers of scikit-learn put numbers in the place of names.",
        "Name the classes with `labels=`, spelt as in `y`. See [One label a document](guide/single_label.md).",
    ),
    "_utils": (
        "What every estimator checks",
        "Small checks that all rooms share.",
        "The message names the parameter, the value that came and what would be right.",
    ),
    "base.py": (
        "What all estimators share",
        "An estimator that another version saved may have other default prompts; a threshold that is to be learned is "
        "learned in `fit`.",
        "Fit again with this version where numbers have to be comparable, or install the version that saved it.",
    ),
    "classifier.py": (
        "GGUFClassifier",
        "Not every method goes with every parameter: a read-out without probabilities cannot be divided by answers to "
        "empty documents, and what is fitted needs documents and targets.",
        "The message names both sides. Choose another method, or leave the parameter out. "
        "[Which method?](guide/method.md) says what each of them reads.",
    ),
    "comparison.py": (
        "compare_methods",
        "Methods are compared by the same scores on the same labels, so all of them must have these "
        "labels and the same task.",
        "Give `y` as a table whose columns are the labels, and methods by name or as classifiers with `predict_proba`.",
    ),
    "extract/_base.py": (
        "Labels and demonstrations of an extractor",
        "Demonstrations are drawn from the documents in `fit`, by what most annotators say of them.",
        "Pass texts and targets to `fit`, give `demonstrations=[(text, [labels]), ...]` yourself, or ask with "
        "`shots=0`. "
        "Where the order of columns is warned of, give `labels` in the order of `y`.",
    ),
    "extract/_steps.py": (
        "Steps and hidden states",
        "Either parameters contradict each other (the last layer is computed at one token only, a document alone has "
        "no prompt), or the model would rather write something else than a label, and the numbers say so.",
        "For warnings of a low mass: first `shots=10`, then other wordings or another instruction, then a larger "
        "model; "
        "see [Which model, which prompt?](models.md).",
    ),
    "extract": (
        "Other extractors",
        "An extractor asks what its model can answer: two different words for yes and no, a pooling that the embedding "
        "model was trained with.",
        "Take the value that the message proposes, or look at the model's card.",
    ),
    "prompts/_templates.py": (
        "Prompt templates",
        "A template has its placeholders once each and in an order that a prompt can be cut at: the document, then the "
        "answer, then something that ends it.",
        "Write what the message names at its place, and double the braces that are your own: `{{` and `}}`.",
    ),
    "prompts/_layouts.py": (
        "How a chat is laid out",
        "The model's chat template was tried on made-up turns and does not keep them as they are. Where "
        '`mode="auto"`, plain text is used and the reason is warned of; with `mode="chat"` it is an error.',
        'Take a file of the same model with a sound template, or say `PromptTemplate(mode="plain")`.',
    ),
    "prompts/_chat.py": (
        "Chat templates that are refused",
        "A chat template is a program that comes with the file. It is run in a sandbox with limits on steps, memory "
        "and what it may reach. These are the reasons that stand in the message about the layout.",
        'Take a file of the same model with another template, or say `PromptTemplate(mode="plain")`.',
    ),
    "prompts": (
        "Demonstrations",
        "More of them were asked for than there are documents.",
        "Give fewer `shots`, or more documents to `fit`.",
    ),
    "_models/files.py": (
        "Which file",
        "`model=` and `lora=` are looked up before anything else: a path, `hf:owner/repo/file.gguf`, the environment "
        "variable `SKMLMC_MODEL`, the embedded model. Each kind of file is refused by the other's estimators.",
        "Give the path of a file that this process may read. Embedding models go to `EmbeddingExtractor`, models that "
        "write text to all others.",
    ),
    "_models/header.py": (
        "Damaged headers",
        "The header of each file is read before llama.cpp sees it, since llama.cpp ends the process at many a damaged "
        'one. These are the reasons that stand behind "is no sound GGUF file".',
        FILE_AGAIN,
    ),
    "_models/soundness.py": (
        "Files of another kind",
        "The header is sound but the file is none that can do what it is asked: an adapter, a projector of images, one "
        "part of several, a vocabulary without weights, an architecture with which llama.cpp goes wrong.",
        "The message says what the file is and where it belongs. All parts of a split model lie in one folder, and the "
        "first is the one to name. Else: " + FILE_AGAIN[0].lower() + FILE_AGAIN[1:],
    ),
    "_models/trial.py": (
        "The trial run",
        "Another process loads each file first and decodes a few tokens. What ends that process would have ended "
        "yours.",
        "Download or convert the file again, or upgrade llama-cpp-python, which may be older than the model. Where "
        "no "
        "other process can be started, `SKMLMC_TRIAL=off` goes without a trial.",
    ),
    "_models/identity.py": (
        "The same file as in fit",
        "A fitted estimator keeps a fingerprint of its model and adapters, and refuses others before anything is "
        "decoded or read from the cache.",
        "Where the same file lies elsewhere, name the place: `clf.set_params(model=...)`, or `locate_model(estimator, "
        "path)` anywhere inside other estimators. To use another model, fit again.",
    ),
    "_models": (
        "Model files",
        "A file is looked at before it is loaded.",
        FILE_AGAIN,
    ),
    "_engine": (
        "llama.cpp",
        "llama.cpp could not load the file, could not decode, or has no such layer. Its own words are in the message.",
        "For a full context a larger `n_ctx` or a smaller `batch_size`; for a lack of memory a smaller model or a "
        "smaller `n_ctx`; for numbers that are not finite the file again. About AMX see [Installing](install.md).",
    ),
    "_inference/run.py": (
        "Documents on their way",
        "A document must fit into the context beside the prompt. Nothing is cut unless `truncation` says so, and what "
        "is cut is warned of.",
        "Raise `n_ctx`, or say how to shorten: see [Long documents](guide/long_documents.md). Workers need the very "
        "file that the calling process has.",
    ),
    "_inference/workers.py": (
        "Threads and processes",
        "Workers are processes of their own. One that dies most often lacked memory.",
        "Fewer processes (`n_jobs`), a smaller `n_ctx`, a smaller model. With `memory=` what was done is kept.",
    ),
    "_inference": (
        "Questions and answers",
        "Labels are told apart by their tokens in the prompt. Where two have the same, or nothing ends an answer, "
        "their probabilities would mean nothing.",
        "Give one of the labels another wording, or choose another `answer_format`. Attention is read only of models "
        "that keep their tokens in order.",
    ),
    "_cache": (
        "The result cache",
        "Entries have checksums and are looked at before they are used. Errors of this room seldom reach you: a "
        "damaged entry is computed again, a foreign file is set aside, and one warning says so.",
        "Give `memory=` a folder that is yours on a disk that works. Where warnings come back, check the disk.",
    ),
    "align/_selective.py": (
        "SelectiveClassifier",
        "A criterion can only be used with a classifier that says it; where all documents are abstained on, there is "
        "no score.",
        'Take "entropy" or "threshold_distance", which any classifier gives, or a larger `coverage`.',
    ),
    "align/_stacking.py": (
        "SoftStackingClassifier",
        "Members are fitted and read on parts of the documents, by the labels of `y`.",
        "Give `y` as a table whose columns are the labels, and members that take what is passed to `fit`.",
    ),
    "align/_thresholds.py": (
        "ThresholdTuner",
        "A threshold is learned for several labels, from held-out probabilities, for one goal. Not every precision or "
        "recall can be reached.",
        "Give a lower `target`, more documents, or another `objective`.",
    ),
    "align": (
        "Read-outs and what is fitted behind them",
        "Columns at prediction are those of `fit`. Fitting needs targets, and enough documents to hold some out.",
        'Pass what the message names. For an alignment of columns that are no labels take `kind="matrix"`.',
    ),
    "metrics.py": (
        "Metrics",
        "Both sides have the same labels and documents; a correlation of what does not vary is not defined.",
        "Match the columns, or say what an undefined value is to be replaced by.",
    ),
    "datasets/_annotators.py": (
        "Annotators' answers",
        "An answer is a collection of labels; nothing at all means none of them. An annotator who did not see a "
        "document has no answer, which is another thing.",
        "The row and the annotator are in the message. For one row a document, annotator and label say `tidy=True`; "
        "for the word that means none of them `none_label=`. See [My annotators disagree](guide/disagree.md).",
    ),
    "datasets/_fetching.py": (
        "Downloads",
        "Data sets come from their owners and are compared with a checksum. Nothing that differs is used.",
        "Without a network put the file that the message names into the folder that it names.",
    ),
    "datasets": (
        "Files of data sets",
        "A file is read line by line and refused where it is not as its owner describes it, with its name and line.",
        "Look at that line. An incomplete download is the most common reason.",
    ),
    "analysis": (
        "Tables of answers",
        "Each table is about answers in steps, with the labels that the steps have.",
        "Pass a fitted `StepwiseExtractor`, or its steps, and targets with the same labels.",
    ),
    "plots": (
        "Figures",
        "A figure has an axis for each thing that it draws, and draws what is about the same labels and documents.",
        "Pass what the message names; matplotlib comes with `pip install matplotlib`.",
    ),
    "streaming.py": (
        "Streams",
        "Results of a stream lie in a folder. A second call goes on only with the documents, the estimator and the "
        "method of the first.",
        "Choose another folder, or delete the files there.",
    ),
    "finetune": (
        "Fine-tuning",
        "Training needs packages, memory, a model that transformers reads, and documents that can be held out. All of "
        "that is looked at before it begins.",
        "Install `skmlmc[finetune]`, or do as the message says; [Fine-tune on your annotators](finetune.md) explains.",
    ),
}
