"""Data sets that Hugging Face's `datasets` wrote, read without it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelaudit.errors import SourceError
from labelaudit.sources.folders import read_source

datasets = pytest.importorskip("datasets")
NAMES = ["ant", "bee"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in all forms in which `datasets` writes it."""
    folder = tmp_path_factory.mktemp("hugging_face")
    datasets.disable_progress_bars()
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=NAMES),
            "vector": datasets.Sequence(datasets.Value("float32")),
        }
    )
    columns = {
        "image": [Image.fromarray(np.full((4, 4), row, np.uint8)) for row in range(30)],
        "label": [row % 2 for row in range(30)],
        "vector": [[row, 1.0] for row in range(30)],
    }
    one = datasets.Dataset.from_dict(columns, features=features)
    one.save_to_disk(folder / "one", num_shards=3)
    both = datasets.DatasetDict({"train": one, "test": one.select(range(4))})
    both.save_to_disk(folder / "both")
    one.filter(lambda row: row["label"] == 1 or row["vector"][0] < 20).save_to_disk(
        folder / "filtered"
    )
    one.to_parquet(folder / "one.parquet")
    datasets.load_dataset(
        "parquet", data_files={"train": str(folder / "one.parquet")}, cache_dir=folder / "cache"
    )
    (folder / "one.parquet").unlink()
    return folder


def pixel(source, row: int) -> int:
    import io

    return int(np.asarray(Image.open(io.BytesIO(source.manifest.images.read(row))))[0, 0])


@pytest.mark.parametrize("name", ["one", "both", "both/train", "cache"])
def test_forms_of_one_data_set(made: Path, name: str) -> None:
    source = read_source(made / name)
    manifest = source.manifest
    assert manifest.class_names == tuple(NAMES)
    assert manifest.noisy_labels.tolist() == [0, 1] * 15
    assert manifest.sample_ids.tolist() == [str(row) for row in range(30)]
    assert [pixel(source, row) for row in (29, 0, 13)] == [29, 0, 13]
    assert pixel(source.subset(np.array([7, 3])), 0) == 7
    assert any("only the split" in text for text in source.warnings) == (name == "both")


def test_another_split(made: Path) -> None:
    assert read_source(made / "both", split="test").manifest.num_samples == 4


def test_filtered_rows_are_those_that_were_saved(made: Path) -> None:
    source = read_source(made / "filtered")
    assert source.manifest.num_samples == 25
    assert pixel(source, 24) == 29


def test_several_data_sets_are_named(made: Path) -> None:
    with pytest.raises(SourceError, match=r"holds 4 data sets.*give the folder of one"):
        read_source(made)


def test_one_file_may_be_a_table_of_features(made: Path) -> None:
    from labelaudit.sources.samples import read_samples

    found = read_samples(made / "both" / "train" / "data-00000-of-00001.arrow", features="vector")
    assert found.features[:, 0].tolist() == list(range(30))
    assert found.source.manifest.class_names == tuple(NAMES)
