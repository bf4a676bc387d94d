"""The sources of networks, one file each. The last one registered is tried first."""

from attn_surgeon.networks.source import register_source
from attn_surgeon.networks.sources import demo, passed_module, timm, torchvision, ultralytics, user_factory

for _source in (
    passed_module.SOURCE,
    user_factory.MODULE,
    torchvision.SOURCE,
    timm.SOURCE,
    ultralytics.SOURCE,
    ultralytics.TRAINED,
    user_factory.FILE,
    demo.SOURCE,
):
    register_source(_source)
