"""A document's questions and answers: from a prompt and a text to label probabilities."""
