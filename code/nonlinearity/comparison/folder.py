"""The folder of a comparison's finished work, from which an interrupted one goes on."""

import hashlib
import json
import math
import os
from pathlib import Path

Record = dict[str, object]

_MANIFEST = "comparison"
_SHOWN = 5  # differences that an error message names


class ResultsFolder:
    """Finished work as JSON files, each of them whole or not believed.

    A file is written under another name and then renamed, and it carries a checksum of its content. What is
    not finite is stored as null, which every JSON reader knows.

    Args:
        path: the folder; made if it is not there.
        manifest: what identifies the comparison. It is written into a new folder, and compared with that of
            an old one.

    Raises:
        ValueError: if the folder holds another comparison (the message names what differs), a damaged one,
            or something else.
    """

    def __init__(self, path: str | Path, manifest: Record) -> None:
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; the results need a folder")
        self.path.mkdir(parents=True, exist_ok=True)
        if self._file(_MANIFEST).exists():
            self._refuse_another(json.loads(_dump(manifest)))
        elif any(not file.name.endswith(".part") for file in self.path.iterdir()):
            raise ValueError(f"{self.path} is not empty and holds no comparison; choose another folder")
        else:
            self.write(_MANIFEST, manifest)

    def _refuse_another(self, manifest: Record) -> None:
        known = self.read(_MANIFEST)
        if known is None:
            raise ValueError(f"{self._file(_MANIFEST)} is damaged; choose another folder, or delete this one")
        found = differences(known, manifest)
        if found:
            more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise ValueError(
                f"{self.path} holds another comparison: {'; '.join(found[:_SHOWN])}{more}. "
                "Choose another folder, or delete this one"
            )

    def read(self, name: str) -> Record | None:
        """The record of that name, or None if it is missing or not whole."""
        try:
            record = json.loads(self._file(name).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        whole = isinstance(record, dict) and record.pop("sha256", None) == _digest(_dump(record))
        return record if whole else None

    def write(self, name: str, record: Record) -> None:
        """Save a record at once and for good."""
        content = _finite(record) | {"sha256": _digest(_dump(record))}
        text = json.dumps(content, indent=1, ensure_ascii=False)
        _write(self._file(name), text.encode())

    def write_weights(self, name: str, weights: bytes) -> str:
        """Save trained weights; their checksum, which belongs into the record."""
        _write(self._weights(name), weights)
        return _digest(weights)

    def read_weights(self, name: str, checksum: str) -> bytes | None:
        """The weights of that name, or None if they are missing or not those of the checksum."""
        try:
            weights = self._weights(name).read_bytes()
        except FileNotFoundError:
            return None
        return weights if _digest(weights) == checksum else None

    def discard_weights(self) -> None:
        """Remove all weights: after the test nothing needs them, and what is left can be read by eye."""
        for file in self.path.glob("*.weights"):
            file.unlink()

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.json"

    def _weights(self, name: str) -> Path:
        return self.path / f"{name}.weights"


def differences(there: object, here: object, name: str = "") -> list[str]:
    """What differs between two manifests, one phrase each.

    Numbers may differ by rounding: the loss of an untrained model, from which one sees that a model computes
    something else now, is not the same to the last bit on another processor.
    """
    if isinstance(there, dict) and isinstance(here, dict):
        keys = list(there) + [key for key in here if key not in there]
        return [
            phrase
            for key in keys
            for phrase in differences(there.get(key), here.get(key), f"{name}.{key}" if name else key)
        ]
    if isinstance(there, float) and isinstance(here, float) and math.isclose(there, here, rel_tol=1e-4):
        return []
    return [] if there == here else [f"{name} ({_contrast(there, here)} here)"]


def _contrast(there: object, here: object) -> str:
    """Both values in short, from a little before the point where they part."""
    texts = [" ".join(str(value).split()) for value in (there, here)]
    parting = next((i for i, (a, b) in enumerate(zip(*texts)) if a != b), 0)
    return " there, ".join(_shortened(text, max(0, parting - 20)) for text in texts)


def _shortened(text: str, start: int) -> str:
    if len(text) <= 60:
        return text
    return f"{'...' if start else ''}{text[start : start + 54]}..."


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _dump(record: Record) -> bytes:
    return json.dumps(_finite(record), sort_keys=True, allow_nan=False).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(file: Path, content: bytes) -> None:
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    with part.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())  # else a power cut could leave the new name on an empty file
    part.replace(file)
