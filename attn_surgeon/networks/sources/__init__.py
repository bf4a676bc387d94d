"""The sources of networks, one file each. The last that is registered is asked first."""

from attn_surgeon.networks.source import register_source
from attn_surgeon.networks.sources import demo, own, passed, timm, torchvision

for _source in (passed.SOURCE, own.MODULE, torchvision.SOURCE, timm.SOURCE, own.FILE, demo.SOURCE):
    register_source(_source)
