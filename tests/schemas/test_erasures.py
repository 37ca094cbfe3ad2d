import pytest

from schemas.erasures import Erasures, subject_of_erasure
from schemas.errors import InvalidErasures
from schemas.events import OperatorAction, OperatorActionKind


def action(subject: str, kind: str = OperatorActionKind.ERASE_TENANT) -> OperatorAction:
    return OperatorAction(action=kind, subject=subject, event_time_us=0)


ERASURES = Erasures.of_actions(
    [
        (action(subject_of_erasure("acme")), 50),
        (action(subject_of_erasure("acme")), 70),
        (action(subject_of_erasure("acme")), 60),
        (action(subject_of_erasure("other"), OperatorActionKind.REKEY), 80),
    ]
)


@pytest.mark.parametrize("erasures", [ERASURES, Erasures.parse(str(ERASURES))])
def test_what_the_log_got_before_the_last_erasure_of_its_tenant_is_erased(
    erasures: Erasures,
) -> None:
    assert erasures.covers("acme", 70)
    assert not erasures.covers("acme", 71)
    assert not erasures.covers("other", 1)
    assert not erasures.covers("", 1)
    assert not erasures.covers(None, 1)


def test_without_an_action_no_tenant_is_erased() -> None:
    assert str(Erasures({})) == ""
    assert not Erasures.parse("").covers("acme", 0)


def test_the_subject_does_not_name_the_tenant() -> None:
    assert subject_of_erasure("acme") == (
        "tenant/822b33ad87c148a0a20a5ba7cd5ebcaa68d36a18e7aad165554903f52ca82757"
    )


@pytest.mark.parametrize("text", ["acme=5", f"{'a' * 64}=", f"{'a' * 64}=x"])
def test_a_text_that_names_no_erasures_is_refused(text: str) -> None:
    with pytest.raises(InvalidErasures, match="is not the SHA-256 of a tenant"):
        Erasures.parse(text)
