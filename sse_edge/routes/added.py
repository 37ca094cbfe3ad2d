"""Endpoints of your own: routers that a setting names, beside the edge's."""

from collections.abc import Iterable, Sequence
from importlib import import_module

from fastapi import APIRouter

from sse_edge.errors import UnknownRouter


def added_routers(names: Iterable[str]) -> Sequence[APIRouter]:
    """Return the routers with some names.

    Args:
        names: each `package.module:router`.

    Raises:
        UnknownRouter: a name is of no router, or its module cannot be imported.
    """
    return [_router(name) for name in names]


def _router(where: str) -> APIRouter:
    module, _, name = where.partition(":")
    try:
        router = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownRouter(
            f"{where!r} is no router such as package.module:router: {error}"
        ) from error
    if not isinstance(router, APIRouter):
        raise UnknownRouter(f"{where!r} is a {type(router).__name__}; it must be an APIRouter")
    return router
