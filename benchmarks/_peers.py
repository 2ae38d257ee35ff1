"""The same work as others do it: llama_cpp.Llama with logprobs, CAPPr with a cached prefix, and no sharing at all."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import llama_cpp

from benchmarks._workload import prepared, question_contexts
from skmlmc._models.files import resolve_model
from skmlmc._models.loaded import load_model

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from slow_twin import SlowTwin, slow_steps  # noqa: E402

N_BATCH = 512


class PromptSpeed:
    """Tokens a second of one batch of 512 tokens in an empty context: the limit."""

    def __init__(self, path, threads):
        self._model = load_model(resolve_model(path))
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = 2 * N_BATCH, N_BATCH, N_BATCH
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = 0
        self._context = llama_cpp.llama_init_from_model(self._model._model, params)
        text = "The dog ran home and nobody cared about what happened yesterday. " * 60
        self._tokens = (llama_cpp.llama_token * N_BATCH)(*self._model.tokenize(text)[:N_BATCH])

    def __call__(self):
        """Measure once."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        batch, start = llama_cpp.llama_batch_get_one(self._tokens, N_BATCH), time.perf_counter()
        assert llama_cpp.llama_decode(self._context, batch) == 0
        return N_BATCH / (time.perf_counter() - start)


class Peers:
    """llama_cpp.Llama as users have it, on the prompts of our extractors."""

    def __init__(self, path, threads, n_ctx):
        shared = {"n_ctx": n_ctx, "n_threads": threads, "n_threads_batch": threads, "logits_all": True}
        self.llama = llama_cpp.Llama(str(path), verbose=False, **shared)
        self._bos = set(load_model(resolve_model(path)).bos)

    def text(self, tokens):
        """Text of tokens; a begin token is left out, since llama_cpp adds it."""
        return self.llama.detokenize([t for t in tokens if t not in self._bos]).decode()

    def create_completion(self, extractor, texts):
        """Write each answer with the log probabilities of 20 tokens at each step."""
        ready = prepared(extractor)
        prompt, lead = self.text(ready.prefix), ready.compiled.answers.slot().lead
        for text in texts:
            asked = prompt + self.text(ready.document(text) + lead)
            self.llama.create_completion(asked, max_tokens=18, temperature=0, logprobs=20, stop=["]", "\n"])

    def cappr(self, extractor, texts):
        """Ask each question of each document, with the prompt's prefix cached."""
        from cappr.llama_cpp import classify

        ready = prepared(extractor)
        prompts = [self.text(c) for text in texts for c in question_contexts(ready, text, inner=False)]
        with classify.cache(self.llama, self.text(ready.prefix)) as cached:
            start = time.perf_counter()
            classify.log_probs_conditional(prompts, list(extractor.answer_words), cached, show_progress_bar=False)
            return time.perf_counter() - start


class NoSharing:
    """One whole prompt for every look: the slow twin of the tests."""

    def __init__(self, path):
        self._twin = SlowTwin(path, kv="float16")
        self._spell = self._twin.speller("json", "\n\nInput:")  # a plain prompt goes on with the next input

    def __call__(self, extractor, texts):
        """Answer documents."""
        ready = prepared(extractor)
        self._twin._seen.clear()
        for text in texts:
            if hasattr(ready, "questionnaire"):
                for context in question_contexts(ready, text):
                    self._twin.logits([*ready.prefix, *context])
            else:
                prompt = [*ready.prefix, *ready.document(text)]
                slow_steps(self._twin.logits, prompt, self._spell, ready.compiled.answers.words, ready.max_labels)
