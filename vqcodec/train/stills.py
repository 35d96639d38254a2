"""Training clips from photographs: a camera moves over a still, sometimes behind an object.

Motion is worked out for a coarse grid of points a frame, in sides of the view, and only then laid
into the picture: where it fits is known once all of it is, so no view leaves the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vqcodec.errors import DataError
from vqcodec.train.pictures import Picture

SHARPEST = 2.5  # clip sides: pictures are scaled down to this shorter side, never up
SUPERSAMPLING = 2  # a side, before the antialiased resize
GRID = 17  # points a side at which motion is worked out; it is linear between them
PATIENCE = 20  # unreadable pictures in a row before that is an error

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Motion:
    """How a camera may move over a still. Lengths are in sides of the view.

    Attributes:
        tripod: probability that it does not move at all.
        pan, zoom, turn: most that it moves, zooms (as a logarithm) and turns (in radians) in a
            frame; far less is as likely.
        shake: most that it strays in a hand, root mean square.
        parallax: how much faster the nearest parts of the scene may pass, relatively.
        squash: views may be this much wider or narrower than square.
        brightness: largest gain, as a factor, up or down.
        unsteady_light: probability that it changes during the clip.
        object: probability that something cut out of another still moves in front.
        noise: probability of sensor noise.
        most_noise: its largest standard deviation, in 8-bit steps.
    """

    tripod: float = 0.25
    pan: float = 0.04
    zoom: float = 0.015
    turn: float = 0.006
    shake: float = 0.02
    parallax: float = 0.6
    squash: float = 1.3
    brightness: float = 1.2
    unsteady_light: float = 0.2
    object: float = 0.3
    noise: float = 0.5
    most_noise: float = 3.0


@dataclass(frozen=True)
class Course:
    """Where a camera, or an object, is in each frame.

    Attributes:
        shift: (T, 2), x and y.
        zoom: (T,), logarithm of its size.
        turn: (T,), radians.
    """

    shift: Floats
    zoom: Floats
    turn: Floats

    @classmethod
    def steady(cls, frames: int) -> Course:
        """No motion."""
        return cls(np.zeros((frames, 2)), np.zeros(frames), np.zeros(frames))

    @classmethod
    def draw(cls, rng: np.random.Generator, frames: int, reach: float, motion: Motion) -> Course:
        """A random course that leads no further than ``reach``."""
        # Drift: x, y, zoom, turn at their own pace, which swells and ebbs.
        fastest = np.array([motion.pan, 0.6 * motion.pan, motion.zoom, motion.turn])
        pace = fastest * _log_uniform(rng, 1 / 60, 1, 4) * rng.choice((-1, 1), 4)
        drift = np.cumsum(pace * (1 + 0.5 * _wander(rng, frames, 4, 0.01, 0.05)), axis=0)
        span = np.ptp(drift, axis=0)
        drift *= np.minimum(1, np.array([reach, reach, 0.5, 0.35]) / np.maximum(span, 1e-9))
        # Shake: what a hand adds.
        sway = motion.shake * float(_log_uniform(rng, 1 / 40, 1, 1)[0])
        shake = sway * np.array([1, 1, 0.3, 0.5]) * _wander(rng, frames, 4, 0.03, 0.3)
        course = drift - drift[frames // 2] + shake
        return cls(course[:, :2], course[:, 2], course[:, 3])


class Stills:
    """Random clips of one size made from pictures.

    Args:
        pictures: all equally likely.
        frames, size: shape of a clip.
        report: told once of each picture that cannot be read; another takes its place.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        *,
        frames: int,
        size: int,
        motion: Motion,
        report: Callable[[str], None] = lambda _problem: None,
    ) -> None:
        self.pictures, self.frames, self.size = list(pictures), frames, size
        self.motion, self.report = motion, report
        self._unreadable: set[Picture] = set()

    def __call__(self, rng: np.random.Generator) -> Tensor:
        """A clip, as a function of the random numbers: uint8 (3, T, H, W)."""
        motion, fine = self.motion, SUPERSAMPLING * self.size
        picture = self._draw(rng)
        reach = max(0.25, min(picture.shape[1:]) / self.size - 1)  # of a view that stays sharp
        course = Course.steady(self.frames)
        if rng.random() >= motion.tripod:
            course = Course.draw(rng, self.frames, reach, motion)
        clip = _sample(picture, _lay(rng, _scene(rng, course, motion), picture, self.size), fine)
        if rng.random() < motion.object:
            clip = self._cover(rng, clip, course)
        clip = clip * _light(rng, self.frames, motion)
        clip = F.interpolate(clip, (self.size, self.size), mode="bicubic", antialias=True)
        if rng.random() < motion.noise:
            clip = clip + motion.most_noise * _noise(rng, clip)
        return clip.clamp_(0, 255).round_().to(torch.uint8).permute(1, 0, 2, 3)

    def _draw(self, rng: np.random.Generator) -> Tensor:
        """A picture: float (3, H, W), no sharper than clips can show.

        Raises:
            DataError: one after the other is unreadable.
        """
        for _ in range(PATIENCE):
            chosen = self.pictures[rng.integers(len(self.pictures))]
            try:
                return chosen.decode(round(SHARPEST * self.size)).float()
            except DataError as error:
                problem = str(error)
                if chosen not in self._unreadable:
                    self._unreadable.add(chosen)
                    self.report(problem)
        raise DataError(f"{PATIENCE} pictures in a row cannot be read, such as {problem}")

    def _cover(self, rng: np.random.Generator, clip: Tensor, camera: Course) -> Tensor:
        """Let an object pass before (T, 3, H, W), or the camera follow one."""
        side = rng.uniform(0.4, 1.2)
        course = Course.draw(rng, self.frames, 1.5, self.motion)
        nearness = 0.0 if rng.random() < 0.3 else rng.uniform(1, 1.6)  # 0: the camera follows
        here = rng.integers(self.frames)  # at this time it is in view
        place = course.shift - nearness * camera.shift
        place = place - place[here] + rng.uniform(-0.5, 0.5, 2)

        # From a point of the view to the point of the object that is seen there, in -1..1.
        scale = (2 / side) * np.exp(-course.zoom)
        points = _turned(_view() - place[:, None, None], scale, -course.turn)
        texture = self._draw(rng)
        texture = texture[:, : texture.shape[2], : texture.shape[1]]  # square
        pixels = min(len(texture[0]), round(side * clip.shape[-1]))  # what it shows of itself
        texture = F.interpolate(texture[None], (pixels, pixels), mode="bilinear", antialias=True)[0]
        texture = torch.cat([texture, _outline(rng, pixels)])
        layer = _sample(texture, points, clip.shape[-1])
        return clip.lerp(layer[:, :3], layer[:, 3:])


def _scene(rng: np.random.Generator, course: Course, motion: Motion) -> Floats:
    """The points of the scene that a camera sees: (T, GRID, GRID, 2), in sides of the view."""
    squash = motion.squash ** rng.uniform(-0.5, 0.5)
    mirror = rng.choice((-1, 1))
    lens = np.array([mirror / squash, squash])
    points = _turned(lens * _view(), np.exp(course.zoom), course.turn)
    points += course.shift[:, None, None]

    # Depth is a sum of waves over the scene: what is near moves more.
    waves = rng.uniform(-1, 1, (3, 2)) * 2 * np.pi / rng.uniform(1, 3, (3, 1))
    depth = np.sin(points @ waves.T + rng.uniform(0, 2 * np.pi, 3)).mean(-1, keepdims=True)
    moved = course.shift - course.shift[len(course.shift) // 2]
    steepest = np.abs(waves).mean(0).max() * np.abs(moved).max()
    parallax = min(rng.uniform(0, motion.parallax), 0.5 / max(steepest, 1e-9))  # it must not fold
    points += parallax * depth * moved[:, None, None]
    return points


def _lay(rng: np.random.Generator, points: Floats, picture: Tensor, size: int) -> Floats:
    """Choose where in a picture points lie: all inside. The picture is -1..1 either way."""
    sides = np.array(picture.shape[:0:-1])
    low = points.min((0, 1, 2))
    extent = points.max((0, 1, 2)) - low
    largest = float((sides / extent).min())
    side = rng.uniform(min(size, largest), largest)
    corner = rng.uniform(0, 1, 2) * (sides - side * extent)
    laid: Floats = 2 * (corner + side * (points - low)) / sides - 1
    return laid


def _sample(picture: Tensor, points: Floats, size: int) -> Tensor:
    """(C, h, w) at coarse points (T, GRID, GRID, 2) → (T, C, size, size); edges go on outside."""
    coarse = torch.from_numpy(points).float().permute(0, 3, 1, 2)
    fine = F.interpolate(coarse, (size, size), mode="bilinear", align_corners=True)
    return F.grid_sample(
        picture.expand(len(points), -1, -1, -1),
        fine.permute(0, 2, 3, 1),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )


def _view() -> Floats:
    """The points of the view, (GRID, GRID, 2): x and y in -1/2..1/2."""
    line = np.linspace(-0.5, 0.5, GRID)
    return np.stack(np.meshgrid(line, line), -1)


def _turned(points: Floats, scale: Floats, angle: Floats) -> Floats:
    """Points (..., GRID, GRID, 2) scaled and turned about the origin as (T,) say."""
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = scale[:, None, None] * np.stack([cos, sin, -sin, cos], -1).reshape(-1, 2, 2)
    turned: Floats = points @ matrix[:, None]
    return turned


def _outline(rng: np.random.Generator, side: int) -> Tensor:
    """The opacity of a random round shape with a soft edge: float (1, side, side), 0 all around."""
    line = np.linspace(-1, 1, side)
    x, y = np.meshgrid(line, line)
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    lobes = np.arange(1, 6)[:, None, None]
    phase = rng.uniform(0, 2 * np.pi, (5, 1, 1))
    bulge = (rng.uniform(-0.3, 0.3, (5, 1, 1)) / lobes * np.sin(lobes * angle + phase)).sum(0)
    softness = rng.uniform(0.03, 0.2)
    edge = np.minimum(0.6 * (1 + bulge), 1 - softness)
    opacity = np.clip((edge - radius) / softness + 0.5, 0, 1)
    return torch.from_numpy(opacity).float()[None]


def _light(rng: np.random.Generator, frames: int, motion: Motion) -> Tensor:
    """What each frame and colour is multiplied by: float (T, 3, 1, 1)."""
    gain = rng.uniform(-1, 1) + 0.2 * rng.uniform(-1, 1, (1, 3))
    if rng.random() < motion.unsteady_light:
        depth = float(_log_uniform(rng, 0.03, 0.7, 1)[0])
        change = _wander(rng, frames, 4, 0.005, 0.1)
        gain = gain + depth * (change[:, :1] + 0.2 * change[:, 1:])
    return torch.from_numpy(motion.brightness**gain).float()[:, :, None, None]


def _noise(rng: np.random.Generator, clip: Tensor) -> Tensor:
    """Sensor noise of a random strength up to 1, more in brightness than in colour."""
    frames, channels, height, width = clip.shape
    both = rng.standard_normal((frames, 1 + channels, height, width), dtype=np.float32)
    mixed = 0.8 * both[:, :1] + 0.6 * both[:, 1:]
    return torch.from_numpy(mixed * np.float32(_log_uniform(rng, 1 / 6, 1, 1)[0]))


def _wander(rng: np.random.Generator, frames: int, count: int, slow: float, fast: float) -> Floats:
    """Smooth random curves about 0 with unit power, (T, count), of these cycles a frame."""
    frequency = _log_uniform(rng, slow, fast, (4, count))
    amplitude = 1 / frequency / np.sqrt((frequency**-2.0).sum(0) / 2)
    phase = rng.uniform(0, 2 * np.pi, (4, count))
    time = np.arange(frames)[:, None, None]
    curves: Floats = (amplitude * np.sin(2 * np.pi * frequency * time + phase)).sum(1)
    return curves


def _log_uniform(
    rng: np.random.Generator, low: float, high: float, shape: int | tuple[int, ...]
) -> Floats:
    return np.exp(rng.uniform(math.log(low), math.log(high), shape))
