"""What an array's metadata may ask for, checked before Zarr opens it.

Pure: JSON values in, sizes out. Zarr would make what the metadata claim, a fill value of
8 GB or an index of 10^15 entries, and so they are judged first.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

from tomoseg.errors import InputError, printable
from tomoseg.io.volume import LONGEST_AXIS
from tomoseg.io.zarr_nodes import Node, Root

MOST_CHUNK_BYTES = 4 << 30
"""Decoded bytes of what can only be read together: a tomogram of 1024^3 float32 in one piece.

Larger ones are read whole for every voxel of them; no program has a reason to write them.
"""

MOST_INNER_CHUNKS = 1 << 22
"""Chunks in a shard, of which 16 bytes each are read: 64 MiB; 1024^3 in chunks of 64^3 has 4096."""

MOST_AXES = 32
"""What every numpy can index."""

MOST_CODECS = 16
"""In a row; writers use one to four."""

_GROWTH = 8
"""What is stored may be longer than the voxels: float64 for int8 is eight times."""

_SLACK_BYTES = 1 << 20
"""For headers, checksums and incompressible data."""

_SAFE_CODECS = frozenset(
    {
        *("blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "lzma", "zfpy", "pcodec"),
        *("delta", "shuffle", "bitround", "quantize", "fixedscaleoffset", "packbits", "astype"),
        *("crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3"),
    }
)
"""Codecs of numbers. What is missing, "pickle" above all, would run code from the file."""

_SAFE_CODECS_V3 = _SAFE_CODECS | {"bytes", "transpose", "sharding_indexed"}

_INDEX_CODECS = frozenset({"bytes", "crc32c"})

_DTYPE_V2 = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
_DTYPE_V3 = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")
_DTYPE_ARGUMENTS = ("dtype", "astype", "encode_dtype", "decode_dtype")


@dataclass(frozen=True)
class ReadLimits:
    """The most bytes that are read at once from a file of an array.

    Parameters
    ----------
    file
        Of a file that is read whole: a chunk, or a shard that lies within what is asked for.
    part
        Of a part of a file: a chunk in a shard, or a shard's index.
    """

    file: int
    part: int


def require_reasonable(where: Root, node: Node) -> ReadLimits:
    """Refuse metadata of an array that no volume has, or that would make Zarr run code.

    Parameters
    ----------
    where
        The array, as messages name it.
    node
        Its metadata.

    Raises
    ------
    InputError
        For an array of something other than numbers, with an unknown codec, more or
        longer axes than any tomogram, or in chunks too large to be read.
    """
    metadata = node.metadata
    shape = _shape(where, metadata.get("shape"), "shape", least=0)
    if max(shape, default=0) > LONGEST_AXIS:
        raise InputError(
            f"{where} claims {_product(shape)} voxels; expected at most {LONGEST_AXIS} on an axis.",
            "Its metadata are damaged; write it again.",
        )
    chunk = _shape(where, _chunk_shape(metadata, node.version), "chunk shape", least=1)
    if len(chunk) != len(shape):
        raise _damaged(where, f"chunks of {len(shape)} axes", metadata.get("chunks", chunk))
    itemsize = _itemsize(where, metadata, node.version)
    if node.version == 2:
        compressor = metadata.get("compressor")
        codecs = [*_list(metadata.get("filters")), *([] if compressor is None else [compressor])]
        _require_known(where, codecs, _SAFE_CODECS, "id")
        return _limits_of_chunk(where, chunk, itemsize)
    return _limits_v3(where, metadata.get("codecs"), chunk, itemsize)


def _limits_of_chunk(where: Root, chunk: tuple[int, ...], itemsize: int) -> ReadLimits:
    decoded = math.prod(chunk) * itemsize
    if decoded > MOST_CHUNK_BYTES:
        raise InputError(
            f"{where} is stored in chunks of {_product(chunk)} voxels, each to be read at once; "
            f"expected at most {MOST_CHUNK_BYTES} bytes.",
            "Write it again in chunks of 64 x 64 x 64 voxels.",
        )
    most = _GROWTH * decoded + _SLACK_BYTES
    return ReadLimits(file=most, part=most)


def _limits_v3(where: Root, codecs: Any, chunk: tuple[int, ...], itemsize: int) -> ReadLimits:
    codecs = _list(codecs)
    names = _require_known(where, codecs, _SAFE_CODECS_V3, "name")
    if "sharding_indexed" not in names:
        return _limits_of_chunk(where, chunk, itemsize)
    configuration = _configuration(codecs[names.index("sharding_indexed")])
    _require_known(where, _list(configuration.get("index_codecs")), _INDEX_CODECS, "name")
    inner = _shape(where, configuration.get("chunk_shape"), "chunk shape of shards", least=1)
    if len(inner) != len(chunk):
        raise _damaged(where, f"chunks in shards of {len(chunk)} axes", inner)
    if len(names) > 1:  # a codec around the shard: nothing in it can be read alone
        _limits_of_chunk(where, chunk, itemsize)
    count = math.prod(-(-outer // edge) for outer, edge in zip(chunk, inner, strict=True))
    if count > MOST_INNER_CHUNKS:
        raise InputError(
            f"{where} claims shards of {_product(chunk)} voxels in chunks of {_product(inner)}; "
            f"expected at most {MOST_INNER_CHUNKS} chunks in a shard.",
            "Write it again in smaller shards or larger chunks.",
        )
    index = 16 * count + _SLACK_BYTES
    part = _limits_v3(where, configuration.get("codecs"), inner, itemsize).file
    shard = _GROWTH * math.prod(chunk) * itemsize + index
    return ReadLimits(file=max(shard, part), part=max(part, index))


def _itemsize(where: Root, metadata: dict[str, Any], version: int) -> int:
    """Return the bytes of a voxel, by the only names of dtypes that Zarr is let see."""
    value = metadata.get("dtype" if version == 2 else "data_type")
    pattern = _DTYPE_V2 if version == 2 else _DTYPE_V3
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InputError(
            f"{where} holds {printable(value)}; expected integers, real numbers or bool.",
            "Give an array of densities.",
        )
    if value == "bool":
        return 1
    number = int(re.sub(r"\D", "", value))
    return number if version == 2 else number // 8


def _chunk_shape(metadata: dict[str, Any], version: int) -> Any:
    if version == 2:
        return metadata.get("chunks")
    grid = metadata.get("chunk_grid")
    regular = isinstance(grid, dict) and grid.get("name") == "regular"
    return _configuration(grid).get("chunk_shape") if regular else grid


def _shape(where: Root, values: Any, what: str, *, least: int) -> tuple[int, ...]:
    if (
        not isinstance(values, list)
        or len(values) > MOST_AXES
        or not all(type(n) is int and least <= n < 2**63 for n in values)
    ):
        expected = f"a {what} of up to {MOST_AXES} integers from {least} to 2^63 - 1"
        raise _damaged(where, expected, values)
    return tuple(values)


def _require_known(where: Root, codecs: list[Any], known: frozenset[str], key: str) -> list[str]:
    """Return the names of codecs; refuse those that are not known, or make what is no number."""
    if len(codecs) > MOST_CODECS:
        raise _damaged(where, f"up to {MOST_CODECS} codecs", f"{len(codecs)}")
    names = []
    for codec in codecs:
        name = codec.get(key) if isinstance(codec, dict) else codec
        plain = name.removeprefix("numcodecs.") if isinstance(name, str) and key == "name" else name
        if not isinstance(plain, str) or plain not in known:
            raise InputError(
                f"{where} is stored with the codec {printable(repr(name))}, which is not read.",
                "Write it again, with zstd or blosc.",
            )
        arguments = codec if key == "id" and isinstance(codec, dict) else _configuration(codec)
        for argument in _DTYPE_ARGUMENTS:
            dtype = arguments.get(argument, "|u1")
            if not isinstance(dtype, str) or not (
                _DTYPE_V2.fullmatch(dtype) or _DTYPE_V3.fullmatch(dtype)
            ):
                raise _damaged(where, f"a codec {plain} of numbers", dtype)
        names.append(plain)
    return names


def _configuration(value: Any) -> dict[str, Any]:
    found = value.get("configuration") if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _product(shape: tuple[int, ...]) -> str:
    return printable(" x ".join(map(str, shape)))


def _damaged(where: Root, expected: str, found: Any) -> InputError:
    return InputError(
        f"{where} has damaged metadata: expected {expected}, found {printable(found)}.",
        "Copy or write the array again.",
    )
