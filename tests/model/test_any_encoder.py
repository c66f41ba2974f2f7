"""Any encoder of BERT's family, any labels, any language; teachers with another encoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from model.errors import ModelError
from model.scorer import Scorer
from model.settings import ModelSettings, TrainSettings
from model.train import train

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
}
_CHINESE = {"利空": ("股价大跌", "亏损扩大", "被监管处罚"), "利好": ("股价大涨", "利润创新高", "获得大订单")}


def _bpe(special: list[str], words: list[str]) -> Tokenizer:
    """Byte pairs as RoBERTa has them: `<s>` 0, `<pad>` 1."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        words,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>")]
    )
    return tokenizer


def _characters() -> Tokenizer:
    """A character a token, no mask token: `[PAD]` 3."""
    letters = sorted(set("".join(text for texts in _CHINESE.values() for text in texts) + "公司甲乙丙丁戊己庚辛今日"))
    vocabulary = {name: i for i, name in enumerate(["[UNK]", "[CLS]", "[SEP]", "[PAD]", *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def _write(folder: Path, config: PreTrainedConfig, tokenizer: Tokenizer) -> Path:
    folder.mkdir()
    torch.manual_seed(0)
    save_file(
        {name: tensor.contiguous() for name, tensor in AutoModel.from_config(config).state_dict().items()},
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(config.to_json_string())
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


_WORDS = ["Acme plunges on loss", "Borel soars on profit", "Cento is sued in court", "reports quarterly earnings index"]


def _encoder(folder: Path, kind: str) -> Path:
    roberta = _bpe(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], _WORDS)
    size = roberta.get_vocab_size()
    if kind == "roberta":
        return _write(folder, RobertaConfig(vocab_size=size, pad_token_id=1, **_SIZES), roberta)
    if kind == "mpnet":
        return _write(folder, MPNetConfig(vocab_size=size, pad_token_id=1, **_SIZES), roberta)
    if kind == "distilbert":
        config = DistilBertConfig(vocab_size=size, dim=32, n_layers=1, n_heads=2, hidden_dim=64, pad_token_id=1)
        return _write(folder, config, roberta)
    if kind == "no mask":
        bare = _bpe(["<s>", "</s>", "<pad>"], _WORDS)
        return _write(folder, BertConfig(vocab_size=bare.get_vocab_size(), pad_token_id=2, **_SIZES), bare)
    characters = _characters()
    return _write(folder, BertConfig(vocab_size=characters.get_vocab_size(), pad_token_id=3, **_SIZES), characters)


@pytest.fixture
def settings(labelled_sets: Callable[[], dict[str, Path]], tiny_encoder: Path, tmp_path: Path) -> TrainSettings:
    return TrainSettings(
        **labelled_sets(),
        out=tmp_path / "out",
        encoder=tiny_encoder,
        events=False,
        epochs=1,
        batch_size=16,
        encoder_rate=3e-3,
        head_rate=1e-2,
        dev_share=0.2,
        max_tokens=48,
        threads=1,
    )


@pytest.mark.parametrize("kind", ["roberta", "mpnet", "distilbert", "no mask"])
@pytest.mark.parametrize("packed", [{}, {"adapter_rank": 4}, {"packed_rank": 4}], ids=["whole", "adapters", "low rank"])
def test_encoders_of_berts_family_train_and_score(
    kind: str, packed: dict[str, int], settings: TrainSettings, tmp_path: Path
) -> None:
    encoder = _encoder(tmp_path / "encoder", kind)
    masked = 0.0 if kind == "no mask" else 0.1
    out = train(settings.model_copy(update={"encoder": encoder, "masked_words": masked, **packed}))
    scorer = Scorer.load(ModelSettings(weights=out, encoder=encoder, device="cpu", backend="torch"))
    texts = ["Acme is sued in court", "Borel", "Cento reports quarterly earnings and moves with the index " * 3]
    together, alone = scorer.score(texts), [scorer.score([text]) for text in texts]
    for part in ("sentiment", "topic"):
        assert np.allclose(getattr(together, part).sum(1), 1, atol=1e-3)
        # padding, whatever its id, changes nothing
        assert np.allclose(getattr(together, part), np.concatenate([getattr(s, part) for s in alone]), atol=0.02)


def test_words_cannot_be_hidden_without_a_token_for_it(settings: TrainSettings, tmp_path: Path) -> None:
    encoder = _encoder(tmp_path / "encoder", "no mask")
    with pytest.raises(ModelError, match="set masked_words to 0"):
        train(settings.model_copy(update={"encoder": encoder, "masked_words": 0.1}))


def test_labels_and_texts_in_chinese(tmp_path: Path) -> None:
    encoder = _encoder(tmp_path / "encoder", "chinese")
    lines = [
        {"text": f"公司{a}{b}{text}", "sentiment": label, "topic": "股价" if "股价" in text else "其他"}
        for label, texts in _CHINESE.items()
        for text in texts
        for a in "甲乙丙丁"
        for b in ("", "今日")
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines))
    out = train(
        TrainSettings(
            labels=(tmp_path / "mine.jsonl",),
            events=False,
            encoder=encoder,
            out=tmp_path / "out",
            epochs=30,
            batch_size=8,
            encoder_rate=1e-3,
            head_rate=1e-2,
            dev_share=0.2,
            max_tokens=32,
            patience=30,
            threads=1,
        )
    )
    scorer = Scorer.load(ModelSettings(weights=out, encoder=encoder, device="cpu"))
    assert set(scorer.sentiment_labels) == {"利空", "利好"}
    assert set(scorer.topic_labels) == {"股价", "其他"}
    scores = scorer.score(["公司戊股价大跌", "公司己利润创新高"])
    assert [scorer.sentiment_labels[i] for i in scores.sentiment.argmax(1)] == ["利空", "利好"]
    assert [scorer.topic_labels[i] for i in scores.topic.argmax(1)] == ["股价", "其他"]


@pytest.mark.parametrize("column", ["sentiment", "topic"])
def test_a_file_may_have_one_kind_of_labels_alone(
    column: str, settings: TrainSettings, tiny_encoder: Path, tmp_path: Path
) -> None:
    rows = [f"{'bad' if i % 2 else 'good'} news no. {i},{'down' if i % 2 else 'up'}" for i in range(60)]
    (tmp_path / "mine.csv").write_text("\n".join([f"text,{column}", *rows]))
    published = dict.fromkeys(("tfns", "tfnt", "sentfin", "phrasebank"))
    out = train(
        settings.model_copy(update={**published, "labels": (tmp_path / "mine.csv",), "epochs": 10, "patience": 10})
    )
    scorer = Scorer.load(ModelSettings(weights=out, encoder=tiny_encoder, device="cpu", backend="torch"))
    assert (scorer.sentiment_labels, scorer.topic_labels) == (
        (("down", "up"), ()) if column == "sentiment" else ((), ("down", "up"))
    )
    scores = scorer.score(["bad news", "good news"])
    assert getattr(scores, column).argmax(1).tolist() == [0, 1]


def test_a_task_checkpoint_gives_its_encoder(settings: TrainSettings, tiny_encoder: Path, tmp_path: Path) -> None:
    """With the head, the prefix and the old names that such files have."""
    folder = tmp_path / "task"
    config = BertConfig.from_json_file(str(tiny_encoder / "config.json"))
    folder.mkdir()
    encoder = load_file(tiny_encoder / "model.safetensors")
    tensors = {f"bert.{name}": tensor for name, tensor in encoder.items()}
    tensors |= {
        name: tensor.clone() for name, tensor in BertForMaskedLM(config).state_dict().items() if name.startswith("cls.")
    }
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    save_file(renamed, folder / "model.safetensors")
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((tiny_encoder / name).read_bytes())
    a = train(settings.model_copy(update={"encoder": folder}))
    b = train(settings.model_copy(update={"out": tmp_path / "plain"}))
    assert (a / "weights.safetensors").read_bytes() == (b / "weights.safetensors").read_bytes()


def test_a_wrong_encoder_is_named(settings: TrainSettings, tmp_path: Path) -> None:
    encoder = _encoder(tmp_path / "encoder", "roberta")
    with pytest.raises(ModelError, match="max_tokens is 96, but the encoder reads 64 tokens at most"):
        train(settings.model_copy(update={"encoder": encoder, "max_tokens": 96}))
    shape = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(shape | {"num_hidden_layers": 2}))
    with pytest.raises(ModelError, match=r"lacks 16 tensors of its 'roberta' encoder, such as encoder\.layer\.1"):
        train(settings.model_copy(update={"encoder": encoder}))
    (encoder / "config.json").write_text(json.dumps(shape | {"model_type": "nothing-known"}))
    with pytest.raises(ModelError, match="of a kind that cannot be trained here"):
        train(settings.model_copy(update={"encoder": encoder}))
    (encoder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        train(settings.model_copy(update={"encoder": encoder}))


def test_a_teacher_may_have_another_encoder(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One found by its name where encoders are kept, as `base` teaches `small`, one in a folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "newsquake").mkdir()
    _encoder(tmp_path / "newsquake" / "somebody--mpnet", "mpnet")
    mpnet = settings.model_copy(
        update={"encoder": None, "encoder_name": "somebody/mpnet", "out": tmp_path / "base", "adapter_rank": 4}
    )
    roberta = _encoder(tmp_path / "roberta", "roberta")
    teachers = (train(mpnet), train(settings.model_copy(update={"encoder": roberta, "out": tmp_path / "other"})))
    (tmp_path / "more.jsonl").write_text("\n".join(json.dumps({"text": f"Elba is sued {i}"}) for i in range(30)))
    said: list[str] = []
    taught = settings.model_copy(
        update={"teachers": teachers, "teacher_encoder": roberta, "unlabelled": (tmp_path / "more.jsonl",)}
    )
    train(taught, said.append)
    assert sum("reads" in line and "teacher" in line for line in said) == 2
    said.clear()
    train(taught, said.append)  # the teachers need not be asked again
    assert not any("reads" in line for line in said)
    assert "what the teachers said is known from before" in said
    (tmp_path / "mine.csv").write_text("text,topic\na,up\nb,down\n" + "".join(f"c{i},up\n" for i in range(50)))
    other = taught.model_copy(update={"tfnt": None, "labels": (tmp_path / "mine.csv",), "out": tmp_path / "x"})
    with pytest.raises(ModelError, match=r"has the topic labels .*, not down, up"):
        train(other)
