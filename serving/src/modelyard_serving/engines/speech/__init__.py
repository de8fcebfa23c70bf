"""Whisper, for many windows of sound at once."""
