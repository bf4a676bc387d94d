"""ultralytics' YOLO and RTDETR, such that training, resuming, validation, prediction and export keep grafts.

`from attn_surgeon.integrations.ultralytics import YOLO` takes the place of `from ultralytics import YOLO`; all else is
as in ultralytics' documentation. ultralytics is under the AGPL-3.0.
"""

from attn_surgeon.optional_dependencies import require_extra

require_extra("ultralytics", "ultralytics", what="this integration")

from attn_surgeon.integrations.ultralytics.model import RTDETR, YOLO  # noqa: E402
from attn_surgeon.integrations.ultralytics.trainer import with_grafts  # noqa: E402

__all__ = ["RTDETR", "YOLO", "with_grafts"]
