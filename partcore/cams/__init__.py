"""Class activation maps, most of them from one forward pass of the network.

A CAM is a frozen callable from a :class:`Readout` to a raw low-resolution map; :func:`heatmap`
brings it to the image's size and to [0, 1], exactly as the grad-cam package does. Score-CAM's three
definitions take their channel scores from any :class:`Scores`. An ensemble is a :class:`Maps`.
"""

from partcore.cams.agreement_weighted import AgreementWeighted
from partcore.cams.class_activation import ClassActivation
from partcore.cams.clustered_scores import ClusteredScores
from partcore.cams.confidence_weighted import ConfidenceWeighted
from partcore.cams.eigen_cam import EigenCam
from partcore.cams.ensemble import Ensemble, Maps
from partcore.cams.exact_scores import ExactScores
from partcore.cams.feature_space_scores import FeatureSpaceScores
from partcore.cams.fidelity import fidelity, pearson
from partcore.cams.grad_cam import GradCam
from partcore.cams.grad_cam_plus_plus import GradCamPlusPlus
from partcore.cams.guided_grad_cam import guided_grad_cam
from partcore.cams.hires_cam import HiResCam
from partcore.cams.layer_cam import LayerCam
from partcore.cams.learned import Combiner, Learned, LearnedWeights, StackingHead, learn
from partcore.cams.mask_gradient_scores import MaskGradientScores
from partcore.cams.mean_scores import MeanScores
from partcore.cams.narrow_scores import NarrowScores
from partcore.cams.package_cam import PACKAGE_NAMES, PackageCam, PackageName
from partcore.cams.readout import Cam, Readout, heatmap, is_constant, read
from partcore.cams.score_cam import ScoreCam
from partcore.cams.score_cam_increase import ScoreCamIncrease
from partcore.cams.score_cam_softmax import ScoreCamSoftmax
from partcore.cams.scores import Scores
from partcore.cams.x_grad_cam import XGradCam

__all__ = [
    "PACKAGE_NAMES",
    "AgreementWeighted",
    "Cam",
    "ClassActivation",
    "ClusteredScores",
    "Combiner",
    "ConfidenceWeighted",
    "EigenCam",
    "Ensemble",
    "ExactScores",
    "FeatureSpaceScores",
    "GradCam",
    "GradCamPlusPlus",
    "HiResCam",
    "LayerCam",
    "Learned",
    "LearnedWeights",
    "Maps",
    "MaskGradientScores",
    "MeanScores",
    "NarrowScores",
    "PackageCam",
    "PackageName",
    "Readout",
    "ScoreCam",
    "ScoreCamIncrease",
    "ScoreCamSoftmax",
    "Scores",
    "StackingHead",
    "XGradCam",
    "fidelity",
    "guided_grad_cam",
    "heatmap",
    "is_constant",
    "learn",
    "pearson",
    "read",
]
