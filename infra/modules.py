"""The names of this system's modules, in a checkout and in a wheel, and their form."""

from importlib.util import find_spec

_PARENT = __name__.removesuffix("infra.modules")


def module_name(folder: str) -> str:
    """Return the module of a top folder, for `python -m`.

    In a checkout that is the folder's name; in a wheel, a package below `tapewire`.
    """
    return _PARENT + folder


def is_compiled() -> bool:
    """Return whether the modules that do most of the work are compiled, as in a compiled wheel."""
    spec = find_spec(module_name("schemas.codec"))
    return spec is not None and not str(spec.origin).endswith(".py")
