"""Names the tenants that an operator has erased by digests, as `operator.actions` has them.

The subject of such an action is `tenant/` and the SHA-256 of the tenant's name. Records that the
log got before the action do not exist any more for those who read the past; later ones do, so a
tenant may come back.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256

from schemas.errors import InvalidErasures
from schemas.events import OperatorAction, OperatorActionKind

_PREFIX = "tenant/"
_DIGEST_CHARS = 64


def subject_of_erasure(tenant: str) -> str:
    """Return the subject of the action that erases a tenant."""
    return _PREFIX + sha256(tenant.encode()).hexdigest()


class Erasures:
    """The erased tenants, each with when it was erased last."""

    def __init__(self, erased_us: Mapping[str, int]) -> None:
        """Take the erasures.

        Args:
            erased_us: when each tenant was erased last by the log's time, in microseconds since
                1970 UTC, by the SHA-256 of its name in hexadecimal.
        """
        self._erased_us = dict(erased_us)
        self._of_tenants: dict[str, int] = {}

    @classmethod
    def of_actions(cls, actions: Iterable[tuple[OperatorAction, int]]) -> "Erasures":
        """Return the erasures among actions, each of which has its time in the log."""
        erased_us: dict[str, int] = {}
        for action, logged_us in actions:
            if action.action == OperatorActionKind.ERASE_TENANT:
                digest = action.subject.removeprefix(_PREFIX)
                erased_us[digest] = max(erased_us.get(digest, 0), logged_us)
        return cls(erased_us)

    @classmethod
    def parse(cls, text: str) -> "Erasures":
        """Return the erasures in a text that `str` has made.

        Raises:
            InvalidErasures: the text is none of them.
        """
        erased_us = {}
        for part in filter(None, text.split(",")):
            digest, _, logged_us = part.partition("=")
            if len(digest) != _DIGEST_CHARS or not logged_us.isdecimal():
                raise InvalidErasures(
                    f"{part!r} is not the SHA-256 of a tenant, `=`, and microseconds since 1970"
                )
            erased_us[digest] = int(logged_us)
        return cls(erased_us)

    def __str__(self) -> str:
        return ",".join(f"{digest}={at_us}" for digest, at_us in self._erased_us.items())

    def __bool__(self) -> bool:
        """Whether any tenant was erased."""
        return bool(self._erased_us)

    def covers(self, tenant: str | None, logged_us: int) -> bool:
        """Return whether a record of a tenant was erased.

        Args:
            tenant: the tenant; None for a record without one, which never is.
            logged_us: when the log got the record, in microseconds since 1970 UTC.
        """
        if tenant is None or not self._erased_us:
            return False
        erased_us = self._of_tenants.get(tenant)
        if erased_us is None:
            digest = sha256(tenant.encode(errors="backslashreplace")).hexdigest()
            erased_us = self._of_tenants[tenant] = self._erased_us.get(digest, 0)
        return logged_us <= erased_us
