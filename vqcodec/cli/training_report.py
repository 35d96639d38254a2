"""What a training run tells, drawn."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from vqcodec.train.config import Progress
    from vqcodec.train.details import DetailValidation
    from vqcodec.train.mending import MendingValidation
    from vqcodec.train.prior import PriorValidation
    from vqcodec.train.restoration import RestorationValidation
    from vqcodec.train.validation import Validation


class Report:
    """A bar on a terminal; otherwise a line now and then, or a JSON object a line.

    Args:
        quiet: show nothing.
        as_json: objects on standard output instead of text on standard error.
    """

    EVERY = 50  # steps between lines where there is no bar

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        self._quiet, self._json = quiet, as_json
        self._bar: Bar | None = None
        self._mean: float | None = None
        self._encoded = 0

    def __enter__(self) -> Report:
        if not self._quiet and not self._json and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:.1f} %"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[told]}"),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task("decode", total=1.0, told="")
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def message(self, text: str) -> None:
        self._line(text, {"message": text})

    def prepared(self, done: int, total: int, problem: str | None) -> None:
        if problem is not None:
            self._line(f"skipped {problem}", {"skipped": problem})
        if self._bar is not None:
            self._bar.update(self._task, completed=done / total, told=f"{done}/{total} videos")

    def encoded(self, done: int, total: int) -> None:
        told = f"{done}/{total} chunks encoded"
        if self._bar is not None:
            self._bar.update(
                self._task, description="encode", completed=min(1.0, done / total), told=told
            )
        elif done - self._encoded >= 10 * self.EVERY:
            self._encoded = done
            self._line(told, {"encoded": done, "chunks": total})

    def progress(self, progress: Progress) -> None:
        step, fraction = progress.step, progress.fraction
        before = progress.loss if self._mean is None else self._mean
        self._mean = 0.98 * before + 0.02 * progress.loss
        left = progress.elapsed * (1 - fraction) / fraction if fraction else 0.0
        told = (
            f"step {step}, loss {self._mean:.4f}, {progress.clips_per_second:.1f} clips/s, "
            f"{left / 60:.0f} min left"
        )
        if self._bar is not None:
            self._bar.update(self._task, description="train", completed=fraction, told=told)
        elif step % self.EVERY == 0:
            self._line(
                f"{100 * fraction:5.1f} %  {told}",
                {
                    "step": step,
                    "fraction": fraction,
                    "seconds": progress.elapsed,
                    "loss": self._mean,
                    "lr": progress.lr,
                    "clips_per_second": progress.clips_per_second,
                },
            )

    def validated(self, step: int, result: Validation) -> None:
        rates, measure = result.coded_bpp, "as coded"
        if rates is None:
            rates, measure = result.entropy_bpp, "by entropy"
        levels = "; ".join(
            f"{psnr:.2f} dB {ssim:.3f} at {bpp:.3f}"
            for psnr, ssim, bpp in zip(result.psnr, result.ssim, rates, strict=True)
        )
        perplexity = ", ".join(f"{value:.0f}" for value in result.perplexity)
        self._line(
            f"step {step}: {levels} bpp {measure}; perplexity {perplexity}",
            {"step": step, "validation": vars(result)},
        )

    def detailed(self, step: int, result: DetailValidation) -> None:
        planes = ", ".join(f"{bpp:.4f}" for bpp in result.bpp)
        self._line(
            f"step {step}: bits a pixel, plane by plane: {planes}",
            {"step": step, "validation": vars(result)},
        )

    def restored(self, step: int, result: RestorationValidation) -> None:
        levels = "; ".join(
            f"{after:.2f} dB ({before:.2f} before)"
            for before, after in zip(result.before, result.after, strict=True)
        )
        self._line(f"step {step}: {levels}", {"step": step, "validation": vars(result)})

    def mended(self, step: int, result: MendingValidation) -> None:
        levels = "; ".join(
            f"{mended:.2f} ({rule:.2f} by the rule, {inside:.2f} inside)"
            for inside, rule, mended in zip(result.inside, result.rule, result.mended, strict=True)
        )
        self._line(
            f"step {step}: flicker at borders {levels}", {"step": step, "validation": vars(result)}
        )

    def predicted(self, step: int, result: PriorValidation) -> None:
        levels = "; ".join(
            f"{memory:.2f} ({alone:.2f} alone, {entropy:.2f} by entropy)"
            for memory, alone, entropy in zip(
                result.memory, result.alone, result.entropy, strict=True
            )
        )
        self._line(
            f"step {step}: bits an index {levels}", {"step": step, "validation": vars(result)}
        )

    def _line(self, text: str, data: dict[str, Any]) -> None:
        if self._json:
            print(json.dumps(data), flush=True)
        elif self._bar is not None:
            self._bar.console.print(text)
        elif not self._quiet:
            print(text, file=sys.stderr, flush=True)
