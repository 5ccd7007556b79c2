"""The embedded default: a tiny CLIP, a generated world, and what shows both."""
