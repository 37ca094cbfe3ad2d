import sys
import types

import pytest
from fastapi import APIRouter

from sse_edge.errors import UnknownRouter
from sse_edge.routes.added import added_routers


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    made = types.ModuleType("our_streams")
    made.router = APIRouter()  # type: ignore[attr-defined]
    made.number = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "our_streams", made)
    return made


def test_a_name_of_a_module_and_its_router_is_found(module: types.ModuleType) -> None:
    assert added_routers(["our_streams:router"]) == [module.router]
    assert added_routers([]) == []


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere:router", "'nowhere:router' is no router such as package.module:router"),
        ("our_streams:missing", "has no attribute 'missing'"),
        ("our_streams", "is no router such as"),
        ("", "is no router such as"),
        ("our_streams:number", "is a int; it must be an APIRouter"),
    ],
)
def test_another_name_is_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(UnknownRouter, match=why):
        added_routers([name])
