"""Text ↔ token ids: tokenizer, padding, detokenizer, chat templates, tools."""
