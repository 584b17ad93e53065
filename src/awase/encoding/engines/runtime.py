"""The one door to ONNX Runtime, whose wheels report their use to Microsoft unless told not to before they load."""

from __future__ import annotations

import os
from types import ModuleType


def onnx_runtime() -> ModuleType:
    """The module `onnxruntime`, silent: no address is looked up and no file written to the user's folders.

    It reads this variable once, when it is first imported; `disable_telemetry_events()` afterwards comes too late. A
    program that imports onnxruntime before awase has to set the variable itself."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    module: ModuleType = onnxruntime
    return module
