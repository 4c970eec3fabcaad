"""Noise and film grain: how strong it is, and more of the same for what was filled without it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.ops.channels import average
from videopainter.ops.motion import Motion
from videopainter.ops.resize import resize

_BLOCK = 16  # px; the flattest blocks of a picture hold little but noise
_FLATTEST = 5  # per cent of the blocks
_LEAST_BLOCKS = 8
_ENOUGH_BLOCKS = 800  # more tell nothing new of how strong noise is
_FLATTEST_SHARE = 0.9  # of the noise is what the flattest blocks hold, as they are chosen for holding little
_ALIKE = 1.5  # times the energy of the flattest: blocks up to here are noise as well
_FINE = 1.5  # px, sigma; finer than this counts as noise when its strength is judged
_COARSE = 3.0  # px, sigma; and finer than this when it is taken as a sample
# Grey levels. Clean footage and its coding stay under 2.3 at any content; only noise that is seen is let through.
_SEEN = 3.0
_BINS = 6  # of brightness
_OUTSIDE = (12, 243)  # darker and brighter blocks are clipped
_RENEWED = 0.36  # of its energy; resampling takes up to a third from noise and leaves as little of texture
_MEMORY = 0.8  # of what was measured before
_QUANTILE = (
    0.25  # of the blocks' power at each frequency: only the shape counts, and texture raises the larger ones
)
_PURE = 1.1  # times as coarse as the finest quarter of the blocks, at most
_RADIUS = 4  # px; grain has no longer correlations


def noise_level(colour: np.ndarray, hole: np.ndarray) -> float:
    """Standard deviation in grey levels of the fine noise in a frame, 0 where it is too weak to be seen.

    ``colour``: uint8 ``(h, w, 3)``. ``hole``: bool ``(h, w)``, what is not looked at.
    """
    bands = (_Blocks.of(colour[rows], hole[rows]) for rows in _bands(*hole.shape))
    energies = [blocks.energy for blocks in bands if blocks is not None]
    if not energies:
        return 0.0
    level = float(np.sqrt(np.percentile(np.concatenate(energies), _FLATTEST))) / _FLATTEST_SHARE
    return level if level >= _SEEN else 0.0


def _bands(height: int, width: int) -> list[slice]:
    """Rows of a picture that hold about `_ENOUGH_BLOCKS`, evenly spread; all of a small one."""
    blocks = (height // _BLOCK) * (width // _BLOCK)
    if blocks <= _ENOUGH_BLOCKS:
        return [slice(0, height)]
    tall = 2 * _BLOCK
    count = max(2, round(_ENOUGH_BLOCKS / blocks * height / tall))
    starts = np.linspace(0, height - tall, count).round().astype(int)
    return [slice(y, y + tall) for y in starts.tolist()]


def renewed(here: np.ndarray, there: np.ndarray, known: np.ndarray) -> bool:
    """Whether the fine detail of flat ground changes from frame to frame, as noise does and texture does not.

    ``here``, ``there``: uint8 grey ``(h, w)`` of the same place. ``known``: bool ``(h, w)``, real in both.
    """
    first, second = _detail(here, _FINE), _detail(there, _FINE)
    blocks = tuple(max(1, side // _BLOCK) for side in here.shape)
    low, high = _OUTSIDE
    for picture in (here, there):
        known = known & (picture > low) & (picture < high)
    products = (first * first, second * second, first * second, known.astype(np.float32))
    energy, other, both, share = (resize(plane, blocks, "area") for plane in products)
    use = share > 0.95
    if use.sum() < _LEAST_BLOCKS:
        return False
    flat = use & (energy <= np.percentile(energy[use], 25))
    # As a correlation, so that a change of light is no change of detail.
    return bool(both[flat].sum() < (1 - _RENEWED) * np.sqrt(energy[flat].sum() * other[flat].sum()))


def newly_drawn(motion: Motion, here: np.ndarray, there: np.ndarray, known: np.ndarray) -> bool:
    """`renewed`, for a camera that may move; False across a cut.

    ``here``, ``there``: uint8 grey ``(h, w)`` of two neighbouring frames. ``known``: bool ``(h, w)``, real in both.
    """
    camera = motion.camera(here, there, known)
    if camera is None:
        return False
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    there = cv2.warpPerspective(there, camera, here.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return renewed(here, there, known)


def denoised(frame: np.ndarray, hole: np.ndarray, sigma: float) -> np.ndarray:
    """Known pixels averaged with known neighbours over ``sigma`` pixels; uint8 ``(h, w)`` or ``(h, w, c)``."""
    known = (~hole).astype(np.float32)
    beside = known if frame.ndim == 2 else known[..., None]
    mass = np.maximum(cv2.GaussianBlur(known, (0, 0), sigma), 1e-6)
    mean = cv2.GaussianBlur(frame * beside, (0, 0), sigma) / (mass if frame.ndim == 2 else mass[..., None])
    return np.where(beside > 0, np.clip(np.rint(mean), 0, 255), frame).astype(np.uint8)


@dataclass
class _Blocks:
    """The blocks of a picture that are wholly known and not clipped."""

    energy: np.ndarray  # (n,) of the fine detail
    brightness: np.ndarray  # (n,)
    rows: np.ndarray  # (n,) in blocks
    columns: np.ndarray

    @classmethod
    def of(cls, colour: np.ndarray, hole: np.ndarray) -> _Blocks | None:
        h, w = (side // _BLOCK for side in hole.shape)
        if h * w < _LEAST_BLOCKS:
            return None
        fine = _detail(colour, _FINE)
        energy, brightness, hidden = (
            resize(plane[: h * _BLOCK, : w * _BLOCK], (h, w), "area")
            for plane in (average(fine * fine), average(colour), hole.astype(np.float32))
        )
        use = (hidden == 0) & (brightness > _OUTSIDE[0]) & (brightness < _OUTSIDE[1])
        if use.sum() < _LEAST_BLOCKS:
            return None
        return cls(energy[use], brightness[use], *np.nonzero(use))

    def noisy(self) -> np.ndarray:
        """bool (n,): those that hold noise and little else, judged within each range of brightness."""
        chosen = np.zeros(len(self.energy), bool)
        bins = _bin(self.brightness)
        overall = np.percentile(self.energy, _FLATTEST)
        for k in np.unique(bins):
            here = bins == k
            if here.sum() >= _LEAST_BLOCKS:
                flattest = np.percentile(self.energy[here], _FLATTEST)
                # Noise of bright and dark places differs by less than this; what has more is texture.
                if flattest < 6 * overall + 1:
                    chosen |= here & (self.energy <= _ALIKE * flattest)
        return chosen


def _bin(brightness):
    return np.clip(np.asarray(brightness) * _BINS / 256, 0, _BINS - 1).astype(int)


def _detail(picture: np.ndarray, sigma: float) -> np.ndarray:
    values = picture.astype(np.float32)
    return values - cv2.GaussianBlur(values, (0, 0), sigma)


class Grain:
    """The noise of a video, measured as it goes by, and fields of noise like it.

    Strength follows channel and brightness; the channels' correlation, the spatial spectrum of each of their three
    independent mixtures, and the correlation from frame to frame are those of the source.

    Args:
        seed: of the fields; the same seed gives the same grain.
    """

    def __init__(self, seed: int):
        self._seed = seed
        self._covariance = np.zeros((3, 3))
        self._strength = np.zeros((_BINS, 3))  # variance of each channel by brightness
        self._weight = np.zeros(_BINS)
        self._kept = 0.0  # correlation from one frame to the next
        self._spectra: np.ndarray | None = None  # (3, block, block), of the mixtures
        self._mixing = np.eye(3)
        self._last: tuple[int, np.ndarray] | None = None  # number and detail of the frame measured last
        self._white: tuple[int, np.ndarray] | None = None  # the field that the last frame's grain came from

    def measure(self, t: int, colour: np.ndarray, hole: np.ndarray) -> None:
        """Learn from frame ``t``, uint8 ``(h, w, 3)``, outside its hole, bool ``(h, w)``."""
        detail = _detail(colour, _COARSE)
        before, self._last = self._last, (t, detail)
        blocks = _Blocks.of(colour, hole)
        if blocks is None:
            return
        chosen = blocks.noisy()
        if chosen.sum() < _LEAST_BLOCKS:
            return
        places = list(zip(blocks.rows[chosen], blocks.columns[chosen]))
        samples = np.stack([_block(detail, *place) for place in places])
        bins = _bin(blocks.brightness[chosen])
        # Fine texture passes for noise, and where a range of brightness has no flat ground there is nothing else; but
        # it is coarser than noise.
        coarseness = (samples**2).mean(axis=(1, 2, 3)) / np.maximum(blocks.energy[chosen], 1e-6)
        pure = coarseness <= _PURE * np.quantile(coarseness, _QUANTILE)
        if pure.sum() >= _LEAST_BLOCKS:
            samples, bins = samples[pure], bins[pure]
            places = [place for place, one in zip(places, pure) if one]
        memory = _MEMORY if self._spectra is not None else 0.0
        # Medians over the blocks: some hold texture besides, which is coarser than noise and would become blotches.
        covariances = np.einsum("nyxc,nyxd->ncd", samples, samples) / _BLOCK**2
        covariance = np.median(covariances, axis=0)
        self._covariance = memory * self._covariance + (1 - memory) * covariance
        for k in np.unique(bins):
            variance = np.diag(np.median(covariances[bins == k], axis=0))
            old = memory * self._weight[k]
            count = (bins == k).sum()
            self._strength[k] = (old * self._strength[k] + count * variance) / (old + count)
            self._weight[k] = old + count
        self._learn_spectra(samples, memory)
        kept = 0.0
        if before is not None and before[0] == t - 1:
            earlier = np.stack([_block(before[1], *place) for place in places])
            kept = float((samples * earlier).sum() / np.sqrt((samples**2).sum() * (earlier**2).sum() + 1e-9))
        self._kept = memory * self._kept + (1 - memory) * max(kept, 0.0)

    def _learn_spectra(self, samples: np.ndarray, memory: float) -> None:
        # The mixing changes with every measurement, so it is fixed by the first one.
        if self._spectra is None:
            self._mixing = np.linalg.eigh(self._covariance)[1]
        window = np.hanning(_BLOCK + 2)[1:-1]
        window = np.outer(window, window)[..., None]
        power = np.abs(np.fft.fft2((samples @ self._mixing) * window, axes=(1, 2))) ** 2
        power = np.quantile(power, _QUANTILE, axis=0).transpose(2, 0, 1)
        self._spectra = power if self._spectra is None else memory * self._spectra + (1 - memory) * power

    @property
    def known(self) -> bool:
        """Whether any noise has been measured."""
        return self._spectra is not None

    def strength(self, picture: np.ndarray) -> np.ndarray:
        """Standard deviation of the noise at each pixel of ``picture``, float32 ``(h, w, 3)`` in grey levels."""
        seen = self._weight > 0
        middles = ((np.arange(_BINS) + 0.5) * 256 / _BINS)[seen]
        # What few blocks tell of a range of brightness is likely to be texture: it counts beside that of all.
        weight = self._weight[seen, None]
        variance = weight * self._strength[seen] + _LEAST_BLOCKS * np.diag(self._covariance)
        deviation = np.sqrt(variance / (weight + _LEAST_BLOCKS))
        table = np.stack(
            [np.interp(np.arange(256), middles, deviation[:, c]) for c in range(3)], axis=-1
        ).astype(np.float32)
        return table[np.clip(average(cv2.GaussianBlur(picture, (0, 0), 2)), 0, 255).astype(np.uint8)]

    def field(self, t: int, size: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
        """Noise of frame ``t`` with a standard deviation of about 1: float32 ``(h, w, 3)``.

        ``size``: (height, width) of the frame, of which ``rows`` and ``columns`` are wanted.
        """
        white = self._white_field(t, size)
        rows_, columns_ = (_padded(part, side) for part, side in zip((rows, columns), size))
        mixtures = []
        for c in range(3):
            kernel = _kernel(self._spectra[c])
            part = cv2.filter2D(white[rows_, columns_, c], -1, kernel, borderType=cv2.BORDER_REFLECT)
            mixtures.append(part[_inner(rows, rows_), _inner(columns, columns_)])
        spread = np.sqrt(np.maximum(np.diag(self._mixing.T @ self._covariance @ self._mixing), 0))
        mixed = (np.stack(mixtures, axis=-1) * spread) @ self._mixing.T
        return (mixed / np.sqrt(np.maximum(np.diag(self._covariance), 1e-9))).astype(np.float32)

    def _white_field(self, t: int, size: tuple[int, int]) -> np.ndarray:
        if self._white is not None and self._white[0] == t:
            return self._white[1]
        fresh = np.random.default_rng((self._seed, t)).standard_normal((*size, 3), np.float32)
        if self._white is not None and self._white[0] == t - 1:
            kept = np.float32(self._kept)
            fresh = kept * self._white[1] + np.sqrt(1 - kept * kept) * fresh
        self._white = (t, fresh)
        return fresh


def _block(detail: np.ndarray, row: int, column: int) -> np.ndarray:
    y, x = row * _BLOCK, column * _BLOCK
    return detail[y : y + _BLOCK, x : x + _BLOCK]


def _kernel(power: np.ndarray) -> np.ndarray:
    """The symmetric kernel that gives white noise a spectrum, and leaves its variance 1."""
    kernel = np.fft.fftshift(np.real(np.fft.ifft2(np.sqrt(power))))
    middle = _BLOCK // 2
    kernel = kernel[middle - _RADIUS : middle + _RADIUS + 1, middle - _RADIUS : middle + _RADIUS + 1]
    return (kernel / np.sqrt((kernel**2).sum() + 1e-12)).astype(np.float32)


def _padded(part: slice, side: int) -> slice:
    return slice(max(0, part.start - _RADIUS), min(side, part.stop + _RADIUS))


def _inner(part: slice, padded: slice) -> slice:
    return slice(part.start - padded.start, part.stop - padded.start)


def missing_share(frame: np.ndarray, fetched: np.ndarray, around: np.ndarray, strength: np.ndarray) -> float:
    """Which share of the noise's variance averaging has taken out of what was fetched, 0..1.

    Args:
        frame, fetched: float32 ``(h, w, 3)``, alike in ``around`` but for that.
        around: bool ``(h, w)``, where both are known.
        strength: float32 ``(h, w, 3)``, of the noise there.
    """
    sound = cv2.erode(around.view(np.uint8), np.ones((7, 7), np.uint8)).view(bool)
    sound &= average(np.abs(frame - fetched)) < 3 * average(strength)
    if sound.sum() < 64:
        return 1.0
    gone = np.mean(_detail(frame, _FINE)[sound] ** 2) - np.mean(_detail(fetched, _FINE)[sound] ** 2)
    return float(np.clip(gone / max(np.mean(strength[sound] ** 2), 1e-6), 0, 1))
