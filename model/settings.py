"""Settings of this room."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from model.encoder import MINILM

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"


class ModelSettings(BaseModel, frozen=True, extra="forbid"):
    """What scores the texts, and on what."""

    size: Literal["auto", "small", "base"] = Field(
        default="auto",
        description="Which of newsquake's own weights: small (22.7 M parameters) or base (110 M, more accurate, its "
        "encoder is brought by `newsquake fetch-encoder`); auto takes base on a GPU and small on a CPU.",
    )
    weights: Path | None = Field(
        default=None,
        description="Folder with config.json and weights.safetensors from `newsquake train`, in place of a size.",
    )
    encoder: Path | None = Field(
        default=None, description="Folder with the encoder's files; without it the place where it is kept."
    )
    sentiment_model: str | None = Field(
        default=None,
        min_length=1,
        description="A plain classifier in Hugging Face's format, folder or hub name, that says the sentiment instead.",
    )
    sentiment_names: dict[str, str] = Field(
        default_factory=dict,
        description="Its labels' names here, such as LABEL_0 = negative; without it they are its own in lower case. "
        "One must be called negative.",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?(,cuda:\d+)*)$",
        description="auto (a GPU when there is one), cpu, cuda, cuda:N, or several as cuda:0,cuda:1.",
    )
    backend: Literal["auto", "openvino", "torch"] = Field(
        default="auto", description="What computes on a CPU; auto is openvino where it is installed. A GPU has torch."
    )
    precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        default="auto", description="auto is the fastest that the processor or GPU computes natively."
    )
    replicas: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Batches computed at once on each device; 0 chooses: 1 on a GPU, a few on a CPU.",
    )
    token_budget: int | None = Field(
        default=None, ge=128, description="Padded tokens a batch; without it 1,024 on a CPU and 65,536 on a GPU."
    )
    max_tokens: int | None = Field(
        default=None,
        ge=8,
        le=512,
        description="Tokens read of a text at once, longer ones in windows; without it as many as in training.",
    )
    threads: int = Field(default=0, ge=0, description="CPU threads for the network; 0 takes all cores.")


class TrainSettings(BaseModel, frozen=True, extra="forbid"):
    """How new weights are trained. The defaults are the first stage of the small weights that ship."""

    tfns: Path | None = Field(default=None, description="Folder of Twitter Financial News Sentiment.")
    tfnt: Path | None = Field(default=None, description="Folder of Twitter Financial News Topic.")
    sentfin: Path | None = Field(default=None, description="Folder of SEntFiN 1.0.")
    phrasebank: Path | None = Field(
        default=None, description="Folder of Financial PhraseBank 1.0, read only in research."
    )
    research: bool = Field(
        default=False, description="Train on four fifths of PhraseBank too; its licence forbids to ship such weights."
    )
    events: bool = Field(default=True, description="Train on newsquake's own events.")
    events_weight: float = Field(default=1.0, gt=0, le=100, description="How much a row of those events counts.")
    events_topic_weight: float = Field(
        default=0.25,
        ge=0,
        le=100,
        description="How much the topic of such a row counts beside its sentiment where TFNT is there too: it was not "
        "given by those who gave TFNT's.",
    )
    events_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of the head that learnt those events in the sentiment that is served; the other heads share "
        "the rest alike.",
    )
    labels: tuple[Path, ...] = Field(default=(), description="Files of one's own labels, CSV, JSON Lines or Parquet.")
    unlabelled: tuple[Path, ...] = Field(
        default=(), description="Files of texts without labels, which the teachers label: CSV, JSON Lines or Parquet."
    )
    augmented: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the words that related ones replace in texts made of the training texts, one of each, "
        "for the teachers to label (Jiao et al. 2020, TinyBERT); 0 makes none.",
    )
    out: Path = Field(default=Path("runs/small"), description="The run folder: checkpoint, metrics, packed weights.")
    start: Path | None = Field(default=None, description="Folder of weights to go on from; else the bare encoder.")
    start_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the weights gone on from in the result, the mean of both (Wortsman et al., CVPR 2022); "
        "not with adapters.",
    )
    encoder: Path | None = Field(
        default=None, description="Folder with an encoder's files; without it the named one, where it is kept."
    )
    encoder_name: str = Field(default=MINILM, min_length=1, description="The encoder's name on the Hugging Face hub.")
    version: str = Field(default="unnamed", min_length=1, max_length=64, description="Name of the weights.")
    epochs: int = Field(default=4, ge=1, description="Passes over the training rows.")
    patience: int = Field(
        default=2, ge=1, description="Epochs without a better dev score after which training ends early."
    )
    batch_size: int = Field(default=32, ge=1, description="Texts a step.")
    accumulate: int = Field(default=1, ge=1, description="Parts a step's texts are computed in, to save memory.")
    encoder_rate: float = Field(default=2e-4, gt=0, description="Peak learning rate of the encoder.")
    head_rate: float = Field(default=1e-3, gt=0, description="Peak learning rate of the heads.")
    adapter_rank: int = Field(
        default=0,
        ge=0,
        le=512,
        description="Rank of low-rank adapters beside a frozen encoder; 0 trains all of it. Weights to go on from that "
        "are of low rank keep theirs.",
    )
    packed_rank: int = Field(
        default=0,
        ge=0,
        le=512,
        description="Mean rank at which the differences are kept where all of the encoder is trained, more of it where "
        "the loss needs it: large encoders become small files. 0 keeps them whole.",
    )
    warm_up: float = Field(default=0.1, ge=0, lt=1, description="Share of the steps in which the learning rates rise.")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's weight decay, on weight matrices.")
    clip: float = Field(default=1.0, gt=0, description="Largest norm of the gradient.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Share of hidden values dropped in training.")
    masked_words: float = Field(default=0.1, ge=0, lt=1, description="Share of the words hidden in training.")
    perturbed: float = Field(
        default=0.05, ge=0, le=1, description="Share of the texts given a typo, other case, an emoji and the like."
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
    tensorboard: bool = Field(default=False, description="Write TensorBoard's files too, where it is installed.")
    seed: int = Field(default=1, ge=0, le=2**31, description="Seed of all random choices.")
    threads: int = Field(default=0, ge=0, description="CPU threads; 0 leaves torch's own choice, all cores.")

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if self.augmented and not self.teachers:
            raise ValueError("augmented needs teachers: texts that say something else have no labels")
        if self.start_share and (self.start is None or self.adapter_rank):
            raise ValueError("start_share needs start, the weights to go on from, and adapter_rank 0")
        return self


class PretrainSettings(BaseModel, frozen=True, extra="forbid"):
    """How an encoder is continued on texts without labels, by guessing hidden words."""

    texts: tuple[Path, ...] = Field(default=(), description="Files of texts, column text: CSV, JSON Lines or Parquet.")
    out: Path = Field(default=Path("runs/encoder"), description="Folder for the encoder's files.")
    encoder: Path | None = Field(
        default=None, description="Folder with an encoder's files; without it the named one, where it is kept."
    )
    encoder_name: str = Field(default=MINILM, min_length=1, description="The encoder's name on the Hugging Face hub.")
    epochs: int = Field(default=1, ge=1, description="Passes over the texts.")
    batch_size: int = Field(default=32, ge=1, description="Texts a step.")
    rate: float = Field(default=1e-4, gt=0, description="Peak learning rate.")
    masked_words: float = Field(default=0.15, gt=0, lt=1, description="Share of the words to guess.")
    max_tokens: int = Field(default=96, ge=8, le=512, description="Tokens read of each text.")
    seed: int = Field(default=1, ge=0, le=2**31, description="Seed of all random choices.")
    threads: int = Field(default=0, ge=0, description="CPU threads; 0 leaves torch's own choice, all cores.")


class DriftSettings(BaseModel, frozen=True, extra="forbid"):
    """When `newsquake drift` says that something has moved: see docs/model.md."""

    items: int = Field(default=5_000, ge=1, le=1_000_000, description="Most items of a stretch that are looked at.")
    minimum_items: int = Field(default=300, ge=20, description="Fewer items than these are not judged.")
    embedded_items: int = Field(default=1_000, ge=20, description="Most items of a stretch that are embedded.")
    significance: float = Field(
        default=0.01, gt=0, lt=1, description="Chance alone must give as much more rarely than this."
    )
    sentiment_mix: float = Field(default=0.1, ge=0, le=1, description="Jensen-Shannon distance of sentiments' shares.")
    topic_mix: float = Field(default=0.15, ge=0, le=1, description="Jensen-Shannon distance of the topics' shares.")
    confidence: float = Field(
        default=0.15, ge=0, le=1, description="Kolmogorov-Smirnov distance of either head's best probabilities."
    )
    unknown_tokens: float = Field(
        default=0.01, ge=0, le=1, description="Growth of the share of tokens that are not in the vocabulary."
    )
    split_words: float = Field(
        default=0.02, ge=0, le=1, description="Growth of the share of words that fall into four pieces or more."
    )
    embedding: float = Field(
        default=0.8, ge=0.5, le=1, description="AUC with which a classifier tells the stretches apart by embeddings."
    )
    accuracy_fall: float = Field(default=0.03, ge=0, le=1, description="Fall of the accuracy to expect, either head.")
    macro_f1_fall: float = Field(default=0.05, ge=0, le=1, description="Fall of the macro F1 to expect, either head.")


class EvaluateSettings(BaseModel, frozen=True, extra="forbid"):
    """What weights are judged on, and how closely. Our own events are always among the sets."""

    tfns: Path | None = Field(default=None, description="Folder of Twitter Financial News Sentiment.")
    tfnt: Path | None = Field(default=None, description="Folder of Twitter Financial News Topic.")
    sentfin: Path | None = Field(default=None, description="Folder of SEntFiN 1.0.")
    phrasebank: Path | None = Field(default=None, description="Folder of Financial PhraseBank 1.0.")
    labels: tuple[Path, ...] = Field(default=(), description="Files of one's own labels, CSV, JSON Lines or Parquet.")
    baselines: bool = Field(default=True, description="Judge simple methods too.")
    few_shot: bool = Field(default=False, description="Draw the curve of what a few labels of one's own add.")
    samples: int = Field(default=2_000, ge=100, le=100_000, description="Resamples behind each interval.")
    perturbed_texts: int = Field(default=500, ge=1, description="Texts of each set that are changed in every way.")
    seed: int = Field(default=1, ge=0, description="Seed of all random choices.")
