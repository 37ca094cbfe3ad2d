"""The names of this system's modules, in a checkout and in a wheel."""

_PARENT = __name__.removesuffix("infra.modules")


def module_name(folder: str) -> str:
    """Return the module of a top folder, for `python -m`.

    In a checkout that is the folder's name; in a wheel, a package below `tapewire`.
    """
    return _PARENT + folder
