"""A world with known truth: pictures, boxes, masks, tracks, motion and actions of a seed and a time."""

from engines.world.catalogue import ACTIONS, CLASSES, IN_APPEARANCE
from engines.world.conditions import CLEAR, USUAL, Conditions
from engines.world.motion import Motion
from engines.world.scene import Scene
from engines.world.world import World

__all__ = ["ACTIONS", "CLASSES", "CLEAR", "IN_APPEARANCE", "USUAL", "Conditions", "Motion", "Scene", "World"]
