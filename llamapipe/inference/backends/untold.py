"""OpenVINO without its telemetry, which on import would write an id into the home folder and call its maker."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["openvino"]

_TELEMETRY = "openvino_telemetry"


def openvino() -> Any:
    """The module ``openvino``. Raises ImportError where it is not installed.

    OpenVINO goes without telemetry where that package is missing, so it is made to miss it for as long as the import
    takes. One that somebody else has imported before stays as it is.
    """
    if "openvino" in sys.modules or _TELEMETRY in sys.modules:
        import openvino as module

        return module
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # what makes an import fail
    try:
        import openvino as module
    finally:
        del sys.modules[_TELEMETRY]
    return module
