import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from schemas.codec import encode
from schemas.errors import UnknownEvent
from schemas.events import ReturnBatch, RiskMeasure, TrainingProgress
from schemas.registry import Registry, Topic, field_names, part_fields
from schemas.topics import REGISTRY

ROOT = Path(__file__).parents[2]

STRANGER = """
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.codec import decode, encode
from schemas.headers import headers_of
from schemas.topics import REGISTRY, Topic, key_of, topic_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    height_m: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TideMeasured:
    station: str
    readings: Sequence[Reading]
    event_time_us: int


TOPIC = Topic("tide.events", TideMeasured, "station", 1000)
TIDES = REGISTRY.register(TOPIC, Path(__file__).parent)

tide = TideMeasured(station="Dover", readings=[Reading(height_m=6.5)], event_time_us=1)
value = encode(tide)
assert decode(value) == tide
assert topic_of(tide) is TIDES
assert key_of(tide) == b"Dover"
assert ("ce_type", b"tapewire.TideMeasured") in headers_of(tide, value, "/test", recorded_us=1)
print("round trip done")
"""

SCHEMA = {
    "type": "record",
    "name": "TideMeasured",
    "namespace": "tides",
    "fields": [
        {"name": "station", "type": "string"},
        {
            "name": "readings",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Reading",
                    "fields": [{"name": "height_m", "type": "double"}],
                },
            },
        },
        {"name": "event_time_us", "type": "long"},
    ],
}


class Part(NamedTuple):
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    parts: Sequence[Part]
    part: Part | None
    names: Sequence[str]
    event_time_us: int


def test_an_event_of_another_package_takes_one_class_and_one_registration(tmp_path: Path) -> None:
    package = tmp_path / "tides"
    package.mkdir()
    (package / "__init__.py").write_text(STRANGER)
    (package / "1.avsc").write_text(json.dumps(SCHEMA))
    done = subprocess.run(
        [sys.executable, "-c", "import tides"],
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "round trip done\n", done.stderr


def test_the_fields_that_hold_other_classes_are_found_by_their_annotations() -> None:
    assert part_fields(Whole) == {"parts": Part, "part": Part}
    assert set(part_fields(RiskMeasure)) == {"estimates", "model_backtests", "stress"}
    assert set(part_fields(TrainingProgress)) == {"task"}


def test_only_dataclasses_and_named_tuples_have_fields() -> None:
    assert field_names(Part) == ("value",)
    assert field_names(Whole) == ("parts", "part", "names", "event_time_us")
    assert field_names(int) == ()
    assert field_names(Sequence[int]) == ()


def test_a_class_and_a_topic_are_registered_once() -> None:
    registry = Registry()
    registry.register(Topic("wholes", Whole, None, None))
    with pytest.raises(ValueError, match="a record class Whole is registered already"):
        registry.register(Topic("others", Whole, None, None))
    with pytest.raises(ValueError, match="topic wholes is registered already"):
        registry.register(Topic("wholes", ReturnBatch, None, None))
    assert len(registry) == 1


def test_an_unregistered_class_is_refused_by_name() -> None:
    with pytest.raises(UnknownEvent, match=r"no topic carries a Whole; they carry .*ReturnBatch"):
        encode(Whole(parts=[], part=None, names=[], event_time_us=0))


def test_every_registered_class_has_a_schema() -> None:
    for registration in REGISTRY:
        assert any(path.name == "1.avsc" for path in registration.schemas.iterdir())
