"""Tasks give an engine's raw output its meaning: for text generation prompts, text, stops and limits."""
