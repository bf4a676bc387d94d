# The public names and where each of them lives: the one list, for type checkers and for `__init__.py`.
from attn_surgeon.artefact.load import load as load
from attn_surgeon.artefact.recipe import read_recipe as read_recipe
from attn_surgeon.artefact.recipe_schema import Recipe as Recipe
from attn_surgeon.artefact.save import save as save
from attn_surgeon.blocks.base.user_blocks import register_block as register_block
from attn_surgeon.control.compare import compare as compare
from attn_surgeon.errors import LostGraftError as LostGraftError
from attn_surgeon.errors import SurgeonError as SurgeonError
from attn_surgeon.export.api import export_onnx as export_onnx
from attn_surgeon.export.api import export_program as export_program
from attn_surgeon.export.parity import ParityError as ParityError
from attn_surgeon.operations.insert import insert as insert
from attn_surgeon.operations.insert import plan as plan
from attn_surgeon.operations.remove import disabled as disabled
from attn_surgeon.operations.remove import remove as remove
from attn_surgeon.scouting.prune import prune as prune
from attn_surgeon.scouting.scout import scout as scout
from attn_surgeon.surgery.certificate import certify as certify
from attn_surgeon.surgery.graft_check import check as check
from attn_surgeon.surgery.installed_grafts import graft_parameters as graft_parameters
from attn_surgeon.surgery.installed_grafts import list_grafts as list_grafts
from attn_surgeon.surgery.sites.survey import find_sites as find_sites

__version__: str
