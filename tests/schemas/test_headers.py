from dataclasses import replace

from schemas.codec import encode
from schemas.events import RiskAlert, TrainingProgress
from schemas.headers import fault_of_tenant, headers_of, tenant_in
from tests.support.alerts import raised_alert

PROGRESS = TrainingProgress(
    task_id="t-1",
    progress=1.0,
    status="running",
    message="",
    metrics={},
    event_time_us=1_223_596_800_000_000,
)


def described(event: TrainingProgress | RiskAlert, **kinds: str) -> dict[str, str]:
    found = headers_of(event, encode(event), "/tests", recorded_us=1_234_500_000, **kinds)
    return {name: value.decode() for name, value in found}


def test_headers_are_cloudevents_in_binary_mode() -> None:
    headers = described(PROGRESS, tenant="acme")
    assert headers.pop("ce_id")
    assert headers == {
        "ce_specversion": "1.0",
        "ce_type": "tapewire.TrainingProgress",
        "ce_source": "/tests",
        "ce_time": "2008-10-10T00:00:00Z",
        "ce_recordedtime": "1970-01-01T00:20:34.500000Z",
        "ce_subject": "t-1",
        "content-type": "application/avro",
        "tenant": "acme",
    }


def test_an_origin_is_named_where_there_is_one() -> None:
    assert described(PROGRESS, origin="192.0.2.7")["origin"] == "192.0.2.7"
    assert "origin" not in described(PROGRESS)


def test_a_tenant_is_one_name_of_text() -> None:
    assert tenant_in([("tenant", b""), ("x", b"y")]) is None
    assert tenant_in([("x", b"y"), ("tenant", "zürich".encode())]) == "zürich"
    assert fault_of_tenant([("tenant", b""), ("tenant", None), ("x", b"\xff")]) is None
    assert fault_of_tenant([("tenant", b"t" * 256)]) is None
    assert fault_of_tenant([("tenant", b"t" * 257)]) is not None
    assert fault_of_tenant([("tenant", b"\xff")]) == "the name of its tenant is not UTF-8: b'\\xff'"
    assert fault_of_tenant([("tenant", b"a"), ("tenant", b"b")]) == "it names 2 tenants"


def test_the_same_fact_has_the_same_id_and_another_one_another() -> None:
    assert described(PROGRESS)["ce_id"] == described(replace(PROGRESS))["ce_id"]
    assert described(PROGRESS)["ce_id"] != described(replace(PROGRESS, progress=2.0))["ce_id"]


def test_an_alerts_id_is_its_transitions() -> None:
    alert = raised_alert("the-transition")
    assert described(alert)["ce_id"] == "the-transition"
