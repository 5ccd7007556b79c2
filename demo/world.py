"""A small world of pictures: (texture, colour, shape, style, seed) -> uint8 (S, S, 3).

One coloured, textured shape on a dull background. Two styles share the world: `STUDIO`, bright and
clean, is what the tiny CLIP was trained on; `FIELD`, small, dim, tinted and noisy, is what the
demo's data set is drawn in. The domain gap between them is what adaptation has to close.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["COLOURS", "FIELD", "SHAPES", "SIZE", "STUDIO", "TEXTURES", "Style", "render"]

SIZE = 48

COLOURS = {
    "red": (220, 40, 40),
    "green": (50, 180, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 215, 50),
    "purple": (150, 60, 190),
    "orange": (240, 140, 40),
}
TEXTURES = ("plain", "striped", "dotted", "checkered")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")


@dataclass(frozen=True)
class Style:
    """Ranges from which a picture's appearance is drawn."""

    radius: tuple[float, float]  # of the shape, as a share of the picture's side
    light: tuple[float, float]  # factor on all channels
    tint: tuple[float, float, float]  # factor per channel, the same for every picture
    noise: float  # standard deviation, in levels of 255


STUDIO = Style(radius=(0.26, 0.42), light=(0.85, 1.1), tint=(1.0, 1.0, 1.0), noise=6.0)
FIELD = Style(radius=(0.22, 0.36), light=(0.45, 0.75), tint=(0.8, 0.95, 1.25), noise=20.0)


def render(
    rng: np.random.Generator, texture: str, colour: str, shape: str, style: Style
) -> np.ndarray:
    """A picture of that shape, uint8 (SIZE, SIZE, 3); position, turn and the rest are random."""
    radius = rng.uniform(*style.radius)
    x, y = _turned_grid(rng, radius)
    cover = _inside(shape, x, y)
    paint = np.array(COLOURS[colour]) + rng.normal(0, 12, 3)
    ink = _texture(texture, x, y, rng.uniform(0.28, 0.4))[..., None]  # 1 where paint, 0 where pale
    pale = 0.25 * paint + 0.75 * 245
    surface = ink * paint + (1 - ink) * pale
    ground = rng.uniform(60, 190) + rng.normal(0, 10, 3)
    image = np.where(cover[..., None], surface, ground)
    image = image * rng.uniform(*style.light) * np.array(style.tint)
    image = image + rng.normal(0, style.noise, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def _turned_grid(rng: np.random.Generator, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in which the shape has radius 1, its centre at 0, turned a little."""
    centre = rng.uniform(radius, 1 - radius, 2) if radius < 0.5 else (0.5, 0.5)
    v, u = np.mgrid[0:SIZE, 0:SIZE] / (SIZE - 1)
    u, v = (u - centre[0]) / radius, (v - centre[1]) / radius
    angle = rng.uniform(-0.35, 0.35)
    return u * np.cos(angle) - v * np.sin(angle), u * np.sin(angle) + v * np.cos(angle)


def _inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    r, angle = np.hypot(x, y), np.arctan2(x, -y)
    if shape == "circle":
        return r < 1
    if shape == "square":
        return np.maximum(abs(x), abs(y)) < 0.82
    if shape == "triangle":
        return (y < 0.6) & (abs(x) * 1.6 < y + 1)
    if shape == "star":
        return r < 0.42 + 0.58 * abs((angle * 5 / np.pi) % 2 - 1)
    if shape == "cross":
        return np.minimum(abs(x), abs(y)) < 0.3 * (np.maximum(abs(x), abs(y)) < 1)
    return (r < 1) & (r > 0.55)  # ring


def _texture(texture: str, x: np.ndarray, y: np.ndarray, period: float) -> np.ndarray:
    u, v = x / period, y / period
    if texture == "striped":
        return (v % 2 < 1).astype(float)
    if texture == "dotted":
        return (np.hypot(u % 2 - 1, v % 2 - 1) > 0.62).astype(float)
    if texture == "checkered":
        return ((u % 2 < 1) ^ (v % 2 < 1)).astype(float)
    return np.ones_like(u)
