"""Engines turn prompts of tokens into tokens; they know neither HTTP nor text."""
