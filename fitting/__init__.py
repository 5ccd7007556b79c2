"""Own pictures in one command: class folders or a list -> methods compared, a model, a page."""
