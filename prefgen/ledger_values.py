"""Values as the ledger stores them: JSON, under zstd unless it is short."""

from __future__ import annotations

import json
import math
import threading
import zlib
from collections.abc import Mapping
from typing import cast

import orjson
import zstandard

from prefgen.messages import Json

_LEVEL = 1  # Of values of about 1 KB, higher levels take twice as long to save a twentieth.
_SHORT = 512
"""Bytes from which on packing saves anything worth its time."""
_ZSTD = b"\x28\xb5\x2f\xfd"
_MOST = 256 << 20
"""Bytes of one value at most, as of an answer: a broken row must not ask for all the memory there is."""


class Packer(threading.local):
    """Each thread that uses it has a compressor of its own, as zstd wants."""

    def __init__(self) -> None:
        self._compress = zstandard.ZstdCompressor(level=_LEVEL).compress
        self._decompressor = zstandard.ZstdDecompressor()

    def pack(self, value: Mapping[str, Json]) -> bytes:
        text = _dump(dict(value))
        return text if len(text) < _SHORT else self._compress(text)

    def unpack(self, data: bytes) -> dict[str, Json]:
        """Reads what version 1 wrote (zlib) too. Raises ValueError where `data` is not whole."""
        try:
            if data.startswith(b"{"):
                text = data
            else:
                text = self._unzip(data) if data.startswith(_ZSTD) else _inflate(data)
        except (zstandard.ZstdError, zlib.error) as error:
            raise ValueError(str(error)) from error
        value = _load(text)
        if not isinstance(value, dict):
            raise ValueError(f"a JSON object was expected, not {type(value).__name__}")
        return value

    def _unzip(self, data: bytes) -> bytes:
        # The limit is for frames that do not tell their size; one that does is believed.
        if zstandard.frame_content_size(data) > _MOST:
            raise ValueError(f"more than {_MOST} bytes")
        return self._decompressor.decompress(data, max_output_size=_MOST)


def _inflate(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    text = stream.decompress(data, _MOST)
    if not stream.eof:
        raise ValueError(f"cut short, or more than {_MOST} bytes")
    return text


def _dump(value: dict[str, Json]) -> bytes:
    # orjson writes null for numbers that are not finite, and refuses half a surrogate pair.
    if _finite(value):
        try:
            return orjson.dumps(value)
        except orjson.JSONEncodeError:
            pass
    return json.dumps(value).encode()


def _finite(value: dict[str, Json] | list[Json]) -> bool:
    for item in value.values() if isinstance(value, dict) else value:
        kind = type(item)
        if kind is float:
            if not math.isfinite(item):  # type: ignore[arg-type]
                return False
        elif (kind is dict or kind is list) and not _finite(item):  # type: ignore[arg-type]
            return False
    return True


def _load(text: bytes) -> Json:
    try:
        return cast(Json, orjson.loads(text))
    except orjson.JSONDecodeError:
        pass
    try:
        return cast(Json, json.loads(text))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
