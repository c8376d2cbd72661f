"""What wandb has written offline: records in the frames of LevelDB's log, each a message of wandb's protocol."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK = 1 << 15
FRAME = struct.Struct("<IHB")  # checksum, length, kind
START = 7  # what begins a file
LAST_KINDS = (1, 4)  # a whole record, the last part of one


def run_of(path: Path) -> dict[str, Any]:
    """The name, group, config, summary and exit code of the run in a file."""
    found: dict[str, Any] = {"summary": {}}
    for record in _records(path.read_bytes()):
        if record.HasField("run"):
            found.update(name=record.run.display_name, group=record.run.run_group, config=_values(record.run.config))
        elif record.HasField("summary"):
            found["summary"] |= _values(record.summary)
        elif record.HasField("exit"):
            found["exit_code"] = record.exit.exit_code
    return found


def _records(data: bytes) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    at, parts = START, b""
    while at + FRAME.size <= len(data):
        rest = -at % BLOCK
        if 0 < rest < FRAME.size:
            at += rest
            continue
        _, length, kind = FRAME.unpack_from(data, at)
        at += FRAME.size
        parts += data[at : at + length]
        at += length
        if kind in LAST_KINDS:
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def _values(message: Any) -> dict[str, Any]:
    return {item.key: json.loads(item.value_json) for item in message.update if item.key and item.key[0] != "_"}
