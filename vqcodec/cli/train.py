"""``vqcodec train``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import click

from vqcodec.cli import options
from vqcodec.cli.training_report import Report
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
    with Report(quiet=quiet, as_json=as_json) as report:
        path = run({k: v for k, v in settings.items() if v is not None}, where, report)
    if path is not None and not quiet and not as_json:
        print(path)


def _train_network(settings: dict[str, Any], where: RunOptions, report: Report) -> Path:
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


def _train_prior(settings: dict[str, Any], where: RunOptions, report: Report) -> Path | None:
    from vqcodec.train.prior import PriorTraining, train_prior

    config = _later_stage(PriorTraining, "prior", settings, where, fp32=True)
    return train_prior(config, where, report)


def _train_details(settings: dict[str, Any], where: RunOptions, report: Report) -> Path | None:
    from vqcodec.train.details import DetailTraining, train_details

    config = _later_stage(DetailTraining, "details", settings, where, fp32=True)
    return train_details(config, where, report)


def _train_restoration(settings: dict[str, Any], where: RunOptions, report: Report) -> Path | None:
    from vqcodec.train.restoration import RestorationTraining, train_restoration

    config = _later_stage(RestorationTraining, "restoration", settings, where)
    return train_restoration(config, where, report)


def _train_mending(settings: dict[str, Any], where: RunOptions, report: Report) -> Path | None:
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
