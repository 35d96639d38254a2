"""Figures published by others, or measured before this project: what ours stand beside."""

from __future__ import annotations

from dataclasses import dataclass

PAPER = "Kotthapalli, Rekabdar: Hierarchical Vector-Quantized Latents … (arXiv 2512.24547)"
PAPER_BPP = 0.1758  # 2,304 indices of 10 bits over 32×64×64 pixels


@dataclass(frozen=True)
class PaperRow:
    """A row of the paper's tables: mean PSNR in dB and SSIM over clips."""

    model: str
    data: str
    psnr: float
    ssim: float


PAPER_TABLE = (
    PaperRow("MS-VQ-VAE", "UCF101 test, table 1", 25.96, 0.8375),
    PaperRow("VQ-VAE (3D, single level)", "UCF101 validation, table 2", 24.91, 0.8673),
    PaperRow("VQ-VAE-2 (no perceptual loss)", "UCF101 validation, table 2", 25.13, 0.8744),
    PaperRow("MS-VQ-VAE", "UCF101 validation, table 2", 26.32, 0.8921),
    PaperRow("MS-VQ-VAE, 512 entries", "UCF101 validation, table 2", 25.58, 0.8802),
    PaperRow("VQ-VAE", "UCF101 test, authors' per-clip file", 23.92, 0.7420),
    PaperRow("VQ-VAE-2", "UCF101 test, authors' per-clip file", 25.93, 0.8345),
    PaperRow("MS-VQ-VAE", "UCF101 test, authors' per-clip file", 26.05, 0.8315),
)


@dataclass(frozen=True)
class SameClip:
    """A UCF101 clip with the authors' own result for the paper's model at 0.1758 bpp.

    Attributes:
        video: file name without suffix.
        number: the clip starts at source frame ``32 * number``.
        psnr: dB, mean over frames.
        ssim: mean over frames.
    """

    video: str
    number: int
    psnr: float
    ssim: float

    @property
    def id(self) -> str:
        """Name in tables, such as ``v_Fencing_g01_c06 #1``."""
        return f"{self.video} #{self.number}"


SAME_CLIPS = (
    SameClip("v_ApplyEyeMakeup_g01_c01", 4, 25.50, 0.8973),
    SameClip("v_HeadMassage_g02_c05", 1, 24.98, 0.8573),
    SameClip("v_HeadMassage_g02_c05", 2, 25.10, 0.8587),
    SameClip("v_HeadMassage_g02_c05", 6, 24.55, 0.8528),
    SameClip("v_HeadMassage_g02_c05", 8, 24.18, 0.8560),
    SameClip("v_Fencing_g01_c06", 1, 25.89, 0.8468),
    SameClip("v_Fencing_g01_c06", 3, 25.57, 0.8403),
    SameClip("v_Fencing_g01_c06", 4, 26.06, 0.8561),
)
