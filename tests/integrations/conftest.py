"""ultralytics without network, installations and a settings file among the user's."""

from __future__ import annotations

import os
import tempfile

_SETTINGS = tempfile.TemporaryDirectory()
for _name, _value in {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": _SETTINGS.name}.items():
    os.environ.setdefault(_name, _value)
