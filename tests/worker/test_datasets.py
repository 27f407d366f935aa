"""What a host has under its data root, seen without reading it."""

from worker import datasets


def test_the_files_are_torchvisions():
    from torchvision.datasets import CIFAR10, CIFAR100, SVHN

    for name, kind in (("cifar10", CIFAR10), ("cifar100", CIFAR100)):
        listed = [*kind.train_list, *kind.test_list]
        names = {entry[0] for entry in listed} | {kind.meta["filename"]}
        assert set(datasets.FILES[name]) == {f"{kind.base_folder}/{file}" for file in names}
    wanted = {SVHN.split_list[part][1] for part in ("train", "test")}
    assert set(datasets.FILES["svhn"]) == wanted


def test_what_is_whole_is_reported(tmp_path):
    for name in (*datasets.FILES["cifar10"], *datasets.FILES["cifar100"][:-1]):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    for folder in ("pets/train", "pets/test", "half/train", ".hidden/train", ".hidden/test"):
        (tmp_path / folder).mkdir(parents=True)
    assert datasets.datasets(tmp_path) == ("cifar10", "image-folder/pets")


def test_no_data_root_is_no_data(tmp_path):
    assert datasets.datasets(tmp_path / "absent") == ()


def test_what_cannot_be_told_is_not_said(tmp_path, monkeypatch):
    """Neither of a root that cannot be read, nor of one with too many folders to name."""
    monkeypatch.setattr(datasets, "MOST_FOLDERS", 2)
    for name in "abc":
        for part in ("train", "test"):
            (tmp_path / name / part).mkdir(parents=True)
    assert datasets.datasets(tmp_path) is None
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    monkeypatch.setattr(datasets, "MOST_FOLDERS", 9)
    assert datasets.datasets(tmp_path) == tuple(f"image-folder/{name}" for name in "abc")
