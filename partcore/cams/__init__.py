"""Class activation maps, all of them from one forward pass of the network.

A CAM is a frozen callable from a :class:`Readout` to a raw low-resolution map; :func:`heatmap`
brings it to the image's size and to [0, 1], exactly as the grad-cam package does.
"""

from partcore.cams.ensemble import Ensemble
from partcore.cams.grad_cam import GradCam
from partcore.cams.grad_cam_plus_plus import GradCamPlusPlus
from partcore.cams.readout import Cam, Readout, heatmap, is_constant, read
from partcore.cams.score_cam import ExactScores, FeatureSpaceScores, ScoreCam

__all__ = [
    "Cam",
    "Ensemble",
    "ExactScores",
    "FeatureSpaceScores",
    "GradCam",
    "GradCamPlusPlus",
    "Readout",
    "ScoreCam",
    "heatmap",
    "is_constant",
    "read",
]
