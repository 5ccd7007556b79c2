"""The method: MMRL and MMRL++ as the papers describe them; no file formats, no config."""
