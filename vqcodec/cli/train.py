"""``vqcodec train``."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vqcodec.cli import options
from vqcodec.limits import MAX_PLANES
from vqcodec.train.config import (
    MAX_SEED,
    OPTIMIZERS,
    PERCEPTUALS,
    RECONSTRUCTIONS,
    RunOptions,
    TrainConfig,
    merge,
)

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from vqcodec.train.details import DetailValidation
    from vqcodec.train.loop import Progress
    from vqcodec.train.mending import MendingValidation
    from vqcodec.train.prior import PriorValidation
    from vqcodec.train.restoration import RestorationValidation
    from vqcodec.train.validation import Validation

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
ANY = click.Path(path_type=Path)
PAPER = TrainConfig()
Config = TypeVar("Config")
COUNT = click.IntRange(1, options.MOST)
STEPS = click.IntRange(0, options.MOST)
POSITIVE = options.Number(min_open=True)
SHARE = options.Number(most=1)
STILL_SHARE = 0.15  # where there are stills


class Weights(click.ParamType):  # type: ignore[type-arg]
    """Numbers with commas between them."""

    name = "weights"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers", param, ctx)


def _default(value: object) -> str:
    return f"  [default: {value}]"


@click.command()
@click.option(
    "--data", type=FOLDER, multiple=True, required=True, help="Folder tree of videos; repeatable."
)
@click.option(
    "--stills",
    type=ANY,
    multiple=True,
    help="Folder tree or tar file of pictures, over which a camera then moves; repeatable.",
)
@click.option(
    "--still-share",
    type=SHARE,
    help="Share of clips made from stills.  [default: 0.15 with --stills]",
)
@click.option(
    "--stage",
    type=click.Choice(("autoencoder", "prior", "details", "restoration", "mending")),
    default="autoencoder",
    show_default=True,
    help="The network, what predicts its indices, details behind them, what restores or mends.",
)
@click.option("--out", type=FOLDER, help="  [default: runs/base, or runs/STAGE]")
@click.option("--cache", type=FOLDER, help="Where decoded footage is kept.")
@click.option("--model", help="Architecture, by name." + _default(PAPER.model))
@click.option("--init", type=FILE, help="Fine-tune this checkpoint.")
@click.option("--chunks", type=COUNT, help="Chunks of footage that teach all but the network.")
@click.option(
    "--hidden",
    type=click.IntRange(1, 256),
    help="Width of a prior; twice that at the last level before the residual stages.",
)
@click.option("--planes", type=click.IntRange(1, MAX_PLANES), help="Planes of details.")
@click.option("--step", type=click.FloatRange(1, 1024), help="Of the first plane, in 8-bit values.")
@click.option("--width", type=click.IntRange(1, 4096), help="Channels of what restores or mends.")
@click.option("--blocks", type=click.IntRange(1, 64), help="Residual blocks of that.")
@click.option(
    "--detail-blocks", type=click.IntRange(0, 64), help="More of them, where there are details."
)
@click.option(
    "--interval-width",
    type=click.IntRange(0, 4096),
    help="Channels of what tells where in its interval a coefficient of details is.",
)
@click.option("--interval-blocks", type=click.IntRange(0, 64), help="Residual blocks of that.")
@click.option("--batch", type=COUNT, help="Clips a step." + _default(PAPER.batch))
@click.option("--epochs", type=POSITIVE, help="Passes over the data." + _default(PAPER.epochs))
@click.option("--steps", type=COUNT, help="Steps, instead of epochs.")
@click.option("--minutes", type=POSITIVE, help="Time, instead of epochs.")
@click.option("--lr", type=POSITIVE, help="Peak rate." + _default(PAPER.lr))
@click.option(
    "--optimizer", type=click.Choice(OPTIMIZERS), help="Optimiser." + _default(PAPER.optimizer)
)
@click.option("--warmup", type=STEPS, help="Steps." + _default(PAPER.warmup))
@click.option(
    "--clip-grad",
    type=options.Number(),
    help="Largest norm; 0: any." + _default(PAPER.clip_grad),
)
@click.option(
    "--reconstruction",
    type=click.Choice(RECONSTRUCTIONS),
    help="Pixel loss." + _default(PAPER.reconstruction),
)
@click.option(
    "--commitment", type=options.Number(), help="Its weight, beta." + _default(PAPER.commitment)
)
@click.option(
    "--perceptual",
    type=click.Choice(PERCEPTUALS),
    help="Perceptual loss." + _default(PAPER.perceptual),
)
@click.option(
    "--perceptual-weight",
    type=options.Number(),
    help="Its weight, gamma." + _default(PAPER.perceptual_weight),
)
@click.option("--vgg-weights", type=FILE, help="VGG-16 state dict, where torchvision has none.")
@click.option(
    "--rotation", is_flag=True, default=None, help="Rotation trick, not straight through."
)
@click.option(
    "--short-clips",
    type=SHARE,
    help="Share of batches cut to shorter clips." + _default(PAPER.short_clips),
)
@click.option(
    "--level-weights",
    type=Weights(),
    metavar="W,W,...",
    help="How often each quality level is trained.  [default: the highest only]",
)
@click.option(
    "--trade",
    type=options.Number(),
    help="What bits weigh under the prior of --init, which learns on." + _default(PAPER.trade),
)
@click.option(
    "--decoder-only", is_flag=True, default=None, help="Freeze encoder and codebooks of --init."
)
@click.option("--delay", type=STEPS, help="Steps before quantisation." + _default(PAPER.delay))
@click.option(
    "--validation",
    type=SHARE,
    help="Share of the videos set aside." + _default(PAPER.validation),
)
@click.option(
    "--seed", type=click.IntRange(0, MAX_SEED), help="Of everything random." + _default(PAPER.seed)
)
@click.option("--validate-every", type=COUNT, default=1000, show_default=True)
@click.option("--save-every", type=COUNT, default=500, show_default=True)
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads.")
@click.option("--fp32", is_flag=True, help="No bfloat16 autocast.")
@click.option("--restart", is_flag=True, help="Forget what --out holds instead of resuming.")
@options.device
@options.quiet
@options.as_json
def train(
    stage: str,
    data: tuple[Path, ...],
    stills: tuple[Path, ...],
    out: Path | None,
    cache: Path | None,
    init: Path | None,
    vgg_weights: Path | None,
    validate_every: int,
    save_every: int,
    threads: int | None,
    fp32: bool,
    restart: bool,
    device: str,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train a model on a folder tree of videos.

    The defaults are the paper's recipe. A run resumes from --out by itself; SIGINT or SIGTERM saves
    and exits. Under torchrun (torchrun --nproc-per-node N -m vqcodec train ...) the batch is
    shared out. The result is OUT/model.safetensors: use it with --model, or put it into weights/.

    With --stage prior the network of --init stays as it is, and learns to predict its indices from
    each other: files get smaller, pictures stay the same. With --stage details there are further
    quality levels behind them. With --stage restoration pictures of all levels come closer to
    their source, and with --stage mending frames on either side of a border between chunks: files
    stay the same.
    """
    import torch

    from vqcodec.train.data import default_cache

    if threads is not None:
        torch.set_num_threads(threads)
    where = RunOptions(
        data=data,
        stills=stills,
        out=out or Path("runs", "base" if stage == "autoencoder" else stage),
        cache=cache or default_cache(),
        init=init,
        vgg_weights=vgg_weights,
        device=device,
        bf16=not fp32,
        validate_every=validate_every,
        save_every=save_every,
        resume=not restart,
    )
    run = {
        "autoencoder": _train_network,
        "prior": _train_prior,
        "details": _train_details,
        "restoration": _train_restoration,
        "mending": _train_mending,
    }[stage]
    with _Report(quiet=quiet, as_json=as_json) as report:
        path = run({k: v for k, v in settings.items() if v is not None}, where, report)
    if path is not None and not quiet and not as_json:
        print(path)


def _train_network(settings: dict[str, Any], where: RunOptions, report: _Report) -> Path:
    from vqcodec.model.config import PRESETS
    from vqcodec.train.loop import train

    model = settings.get("model", PAPER.model)
    if model not in PRESETS:
        raise click.UsageError(f"no architecture {model} (known: {', '.join(PRESETS)})")
    _refuse_all_but(TrainConfig, settings, "autoencoder")
    if where.stills:
        settings = {"still_share": STILL_SHARE} | settings
    elif settings.get("still_share"):
        raise click.UsageError("--still-share needs --stills")
    return train(merge(PAPER, settings), where, report)


def _train_prior(settings: dict[str, Any], where: RunOptions, report: _Report) -> Path | None:
    from vqcodec.train.prior import PriorTraining, train_prior

    config = _later_stage(PriorTraining, "prior", settings, where, fp32=True)
    return train_prior(config, where, report)


def _train_details(settings: dict[str, Any], where: RunOptions, report: _Report) -> Path | None:
    from vqcodec.train.details import DetailTraining, train_details

    config = _later_stage(DetailTraining, "details", settings, where, fp32=True)
    return train_details(config, where, report)


def _train_restoration(settings: dict[str, Any], where: RunOptions, report: _Report) -> Path | None:
    from vqcodec.train.restoration import RestorationTraining, train_restoration

    config = _later_stage(RestorationTraining, "restoration", settings, where)
    return train_restoration(config, where, report)


def _train_mending(settings: dict[str, Any], where: RunOptions, report: _Report) -> Path | None:
    from vqcodec.train.mending import MendingTraining, train_mending

    config = _later_stage(MendingTraining, "mending", settings, where)
    return train_mending(config, where, report)


def _later_stage(
    config: type[Config],
    stage: str,
    settings: dict[str, Any],
    where: RunOptions,
    *,
    fp32: bool = False,
) -> Config:
    """The configuration of a stage after the network's; ``fp32`` if --fp32 means nothing to it.

    Raises:
        click.UsageError: there is no checkpoint to go on from, or a setting means nothing here.
    """
    if where.init is None:
        raise click.UsageError(f"--stage {stage} needs --init, the checkpoint that it is for")
    unused = {
        "vgg_weights": where.vgg_weights,
        "stills": where.stills or None,
        "fp32": (fp32 and not where.bf16) or None,
    }
    given = settings | {name: value for name, value in unused.items() if value is not None}
    _refuse_all_but(config, given, stage)
    if "steps" in settings:  # instead of minutes
        settings = {"minutes": None} | settings
    return config(**settings)


def _refuse_all_but(config: type[Any], settings: dict[str, Any], stage: str) -> None:
    """Refuse settings that mean nothing to a stage.

    Raises:
        click.UsageError: one is not a field of the stage's ``config``.
    """
    known = {field.name for field in dataclasses.fields(config)}
    for name in settings:
        if name not in known:
            raise click.UsageError(f"--{name.replace('_', '-')} is not for --stage {stage}")


class _Report:
    """A bar on a terminal; otherwise a line now and then, or a JSON object a line."""

    EVERY = 50  # steps between lines where there is no bar

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        self._quiet, self._json = quiet, as_json
        self._bar: Bar | None = None
        self._mean: float | None = None
        self._encoded = 0

    def __enter__(self) -> _Report:
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
