"""Small networks, each showing one trap of surgery on a forward."""

from .arguments import CallsMasked, CoinFlip, CountsCalls, FunctionalDropout, Masked, NoiseInTrain, StochasticDepth
from .basics import WIDTH, Residual, Root, conv
from .containers import Dense, OverChildren, Stages, call, index, iterate, slices
from .forwards import (
    Aliased,
    CollidingNames,
    FunctionLikeChild,
    InPlace,
    NamedAttn,
    Reserved,
    SharedHead,
    SharedRelu,
    Tied,
    Twins,
    Unpacks,
    UsedTwice,
)
from .layouts import ChannelsLast, OneSize, TokenBlock, Tokens
from .opaque import BranchOnValue, GivesList, Helpers, IntOnShape, Positions, TakesList

__all__ = [
    "WIDTH",
    "Aliased",
    "BranchOnValue",
    "CallsMasked",
    "ChannelsLast",
    "CoinFlip",
    "CollidingNames",
    "CountsCalls",
    "Dense",
    "FunctionLikeChild",
    "FunctionalDropout",
    "GivesList",
    "Helpers",
    "InPlace",
    "IntOnShape",
    "Masked",
    "NamedAttn",
    "NoiseInTrain",
    "OneSize",
    "OverChildren",
    "Positions",
    "Reserved",
    "Residual",
    "Root",
    "SharedHead",
    "SharedRelu",
    "Stages",
    "StochasticDepth",
    "TakesList",
    "Tied",
    "TokenBlock",
    "Tokens",
    "Twins",
    "Unpacks",
    "UsedTwice",
    "call",
    "conv",
    "index",
    "iterate",
    "slices",
]
