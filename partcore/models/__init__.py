"""Networks by name."""

from collections.abc import Mapping

from partcore.models.classifier import Builder, CamClassifier, ModelUnfit
from partcore.models.preact_resnet18 import preact_resnet18
from partcore.models.resnet18 import resnet18
from partcore.models.small_cnn import small_cnn
from partcore.models.torchvision_networks import torchvision_classifier
from partcore.models.wide_resnet import wide_resnet, wrn_28_10, wrn_34_10

TORCHVISION = "torchvision:"

MODELS: Mapping[str, Builder] = {
    "small-cnn": small_cnn,
    "resnet18": resnet18,
    "preact-resnet18": preact_resnet18,
    "wrn-28-10": wrn_28_10,
    "wrn-34-10": wrn_34_10,
}


def builder(name: str) -> Builder:
    """Return the builder of a name of :data:`MODELS` or of ``torchvision:<name>``.

    Raises KeyError for an unknown name, ModelUnfit for a torchvision network without pooled head.
    """
    if name.startswith(TORCHVISION):
        return torchvision_classifier(name.removeprefix(TORCHVISION))
    return MODELS[name]


__all__ = [
    "MODELS",
    "Builder",
    "CamClassifier",
    "ModelUnfit",
    "builder",
    "preact_resnet18",
    "torchvision_classifier",
    "wide_resnet",
]
