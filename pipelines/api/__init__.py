"""What `import textmint` gives, such as `textmint.preview(...)`: setup.py installs this as the package `textmint`.

Nothing is imported before it is used (PEP 562).
"""

# mypy: implicit-reexport

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from textmint.pipelines.options.errors import OptionError
    from textmint.pipelines.preview import Preview, preview
    from textmint.transforms.core.errors import RunFailed

_HOMES: Final = {
    "OptionError": "textmint.pipelines.options.errors",
    "Preview": "textmint.pipelines.preview",
    "RunFailed": "textmint.transforms.core.errors",
    "preview": "textmint.pipelines.preview",
}
__all__ = ["OptionError", "Preview", "RunFailed", "preview"]

if not TYPE_CHECKING:  # or a type checker would take any name for one that there is

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
