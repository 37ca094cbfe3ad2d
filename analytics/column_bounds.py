"""Checks the bounds of a record's fields for whole columns of values.

The bounds are those of `schemas.bounds`, which Pydantic checks record by record. A column that
holds them here holds them there.
"""

from collections.abc import Sequence
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Protocol, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
from annotated_types import Ge, Le, MaxLen
from pydantic import AllowInfNan, TypeAdapter, ValidationError

from analytics.arrow_compute import pc
from schemas.bounds import AsList, Observed, Paced
from schemas.registry import field_names


class Unbounded(Exception):  # it names what was found
    """A type of fields whose bounds can only be checked value by value."""


class Bounds(Protocol):
    """The bounds of a field."""

    def hold(self, values: pa.Array) -> bool:
        """Return whether all values are within their bounds."""
        ...


def bounds_of(hint: Any) -> Bounds:
    """Return the bounds of a field by its type.

    Raises:
        Unbounded: its values can only be checked one by one.
    """
    found: list[object] = []
    inner = hint
    while get_origin(inner) is Annotated:
        inner, *more = get_args(inner)
        found += more
    found = [bound for bound in found if not isinstance(bound, AsList | Observed | Paced)]
    if get_origin(inner) in (Union, UnionType):
        branches = [branch for branch in get_args(inner) if branch is not NoneType]
        if found or len(branches) != 1:
            raise Unbounded(hint)
        return _Optional(bounds_of(branches[0]))
    if get_origin(inner) is Sequence:
        return _Required(_List(_limit(found, MaxLen, hint), bounds_of(get_args(inner)[0])))
    if field_names(inner) and not found:
        hints = get_type_hints(inner, include_extras=True)
        return _Required(_Fields({name: bounds_of(hints[name]) for name in field_names(inner)}))
    if inner in _SCALARS:
        if all(isinstance(bound, Ge | Le | MaxLen | AllowInfNan) for bound in found):
            return _Required(_Scalars(inner, found))
        return _Required(_OneByOne(hint))
    raise Unbounded(hint)


_SCALARS = (bool, int, float, str, bytes)


class _Required:
    """Bounds of values that are never null."""

    def __init__(self, inner: Bounds) -> None:
        self._inner = inner

    def hold(self, values: pa.Array) -> bool:
        return values.null_count == 0 and (len(values) == 0 or self._inner.hold(values))


class _Optional:
    """Bounds of values that may be null."""

    def __init__(self, inner: Bounds) -> None:
        self._inner = inner

    def hold(self, values: pa.Array) -> bool:
        return self._inner.hold(values.drop_null() if values.null_count else values)


class _List:
    def __init__(self, longest: int, items: Bounds) -> None:
        self._longest = longest
        self._items = items

    def hold(self, values: pa.ListArray) -> bool:
        longest = pc.max(pc.list_value_length(values)).as_py()
        return longest <= self._longest and self._items.hold(values.flatten())


class _Fields:
    def __init__(self, fields: dict[str, Bounds]) -> None:
        self._fields = fields

    def hold(self, values: pa.StructArray) -> bool:
        named = dict(zip([part.name for part in values.type], values.flatten(), strict=True))
        return all(bounds.hold(named[name]) for name, bounds in self._fields.items())


class _OneByOne:
    """Bounds that are a function of the value, such as those of texts in JSON."""

    def __init__(self, hint: Any) -> None:
        kind: Any = GenericAlias(list, (hint,))
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def hold(self, values: pa.Array) -> bool:
        try:
            self._adapter.validate_python(values.unique().to_pylist())
        except ValidationError:
            return False
        return True


class _Scalars:
    def __init__(self, kind: type, bounds: Sequence[object]) -> None:
        self._kind = kind
        self._least = max((b.ge for b in bounds if isinstance(b, Ge)), default=None)  # type: ignore[type-var]  # numbers
        self._most = min((b.le for b in bounds if isinstance(b, Le)), default=None)  # type: ignore[type-var]  # numbers
        self._longest = min((b.max_length for b in bounds if isinstance(b, MaxLen)), default=None)
        self._is_finite = any(isinstance(b, AllowInfNan) and not b.allow_inf_nan for b in bounds)

    def hold(self, values: pa.Array) -> bool:
        if self._longest is not None and not self._are_short(values, self._longest):
            return False
        if self._is_finite and not pc.all(pc.is_finite(values)).as_py():
            return False
        if self._least is None and self._most is None:
            return True
        if pa.types.is_timestamp(values.type):
            values = values.view(pa.int64())
        found = pc.min_max(values).as_py()
        is_above = self._least is None or found["min"] >= self._least
        return is_above and (self._most is None or found["max"] <= self._most)

    def _are_short(self, values: pa.Array, longest: int) -> bool:
        # No text has more characters than bytes.
        if pc.max(pc.binary_length(values)).as_py() <= longest:
            return True
        return self._kind is str and pc.max(pc.utf8_length(values)).as_py() <= longest


def _limit(bounds: Sequence[object], kind: type[MaxLen], hint: object) -> int:
    limits = [bound for bound in bounds if isinstance(bound, kind)]
    if len(limits) != 1 or len(bounds) != 1:
        raise Unbounded(hint)
    return limits[0].max_length
