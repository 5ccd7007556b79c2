"""The demo: a tiny CLIP, a generated world, and the program that shows both."""
