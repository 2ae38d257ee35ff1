"""The only room that knows llama_cpp: loaded models, token prefixes, logits."""
