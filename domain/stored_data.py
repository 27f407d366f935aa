"""What a worker must have under its data root before a run may start there."""

from domain.catalog import DATASETS, DatasetName
from domain.spec import DataSpec

BUNDLED: frozenset[DatasetName] = frozenset({"digits"})
"""Installed with the worker: every worker has them."""
FOLDERS = "image-folder/"
"""Before the name of an operator's folder of images."""


def stored_data(spec: DataSpec) -> str:
    """Return the name workers report it under, such as ``cifar10``; empty where all have it."""
    if spec.dataset in BUNDLED:
        return ""
    return spec.dataset if spec.folder is None else FOLDERS + spec.folder


def missing(name: str) -> str:
    """Say what no worker has, and how to get it. name: of :func:`stored_data`."""
    if name.startswith(FOLDERS):
        folder = name.removeprefix(FOLDERS)
        return (
            f"a worker with the image folder '{folder}': none has it; put {folder}/train/<class>/ "
            f"and {folder}/test/<class>/ under the data root of a worker's host"
        )
    facts = {str(known): about for known, about in DATASETS.items()}.get(name)
    title, how = (name, "") if facts is None else (facts.title, f"; {facts.how_to_get}")
    return f"a worker with {title}: none has it{how}"
