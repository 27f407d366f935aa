import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image

from domain.catalog import DATASETS, MODELS, TORCHVISION
from domain.errors import DataMissing, SpecUnsatisfiable
from domain.presets import expand
from domain.spec import DataSpec
from partcore.data import Augmentation, fingerprint, load, to_unit
from partcore.data.images import balanced_order, hold_out, numbered
from partcore.models import MODELS as NETWORKS
from partcore.models.classifier import grid_size, initialise, parameter_count
from partcore.randomness import generator


def digits(**over):
    return load(DataSpec(dataset="digits", **over), Path("nowhere"), seed=3)


class TestDigits:
    def test_the_catalog_tells_the_truth(self):
        facts, split = DATASETS["digits"], digits(validation_fraction=0.0)
        assert (len(split.train), len(split.test)) == (facts.train, facts.test)
        assert split.train.x.shape[1:] == (facts.channels, facts.size, facts.size)
        assert len(split.classes) == facts.classes
        assert split.train.x.dtype == torch.uint8
        assert split.train.x.max() == 255

    def test_every_part_has_every_class_about_as_often(self):
        split = digits()
        for part in (split.train, split.validation, split.test):
            counts = part.y.bincount(minlength=10).float() / len(part)
            assert (counts - 0.1).abs().max() < 0.015

    def test_no_image_is_in_two_parts(self):
        split = digits()
        pixels = [
            {bytes(image.flatten().tolist()) for image in part.x}
            for part in (split.train, split.validation, split.test)
        ]
        assert not pixels[0] & pixels[2]
        assert not pixels[0] & pixels[1]

    def test_test_images_are_the_same_for_every_seed_and_training_images_are_not(self):
        spec = DataSpec(dataset="digits", train_limit=100, test_limit=50)
        one, two = (load(spec, Path(), seed=seed) for seed in (1, 2))
        assert fingerprint(one.test) == fingerprint(two.test)
        assert fingerprint(one.train) != fingerprint(two.train)
        assert (len(one.train) + len(one.validation), len(one.test)) == (100, 50)

    def test_too_few_images_are_refused(self):
        with pytest.raises(SpecUnsatisfiable, match="train_limit"):
            digits(train_limit=1)


class TestImageFolder:
    @pytest.fixture
    def root(self, tmp_path):
        for part, count in (("train", 6), ("test", 3)):
            for label, name in enumerate(["cat", "dog"]):
                folder = tmp_path / "pets" / part / name
                folder.mkdir(parents=True)
                for i in range(count):
                    shade = (40 * i, 100 * label, 7)
                    Image.new("RGB", (10, 12), shade).save(folder / f"{i}.png")
        return tmp_path

    def spec(self, **over):
        return DataSpec(
            **{"dataset": "image-folder", "folder": "pets", "classes": 2, "size": 8, **over}
        )

    def test_images_are_read_in_order_of_their_names(self, root):
        split = load(self.spec(validation_fraction=0.0), root, seed=1)
        assert split.classes == ("cat", "dog")
        assert split.train.x.shape == (12, 3, 8, 8)
        assert split.train.x[:6, 0, 0, 0].tolist() == [0, 40, 80, 120, 160, 200]
        assert split.train.y.tolist() == [0] * 6 + [1] * 6

    def test_a_limit_is_balanced_and_keeps_ids(self, root):
        split = load(self.spec(train_limit=4, validation_fraction=0.0, test_limit=2), root, seed=1)
        assert split.train.y.bincount().tolist() == [2, 2]
        assert split.test.y.tolist() == [0, 1]
        assert (split.train.ids // 6).tolist() == split.train.y.tolist()

    def test_what_does_not_fit_is_named(self, root):
        with pytest.raises(DataMissing, match="<data root>/<folder>"):
            load(self.spec(folder="elsewhere"), root, seed=1)
        with pytest.raises(SpecUnsatisfiable, match=r"data\.classes is 3; train/ of 'pets' has 2"):
            load(self.spec(classes=3), root, seed=1)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_data_that_is_not_there_says_how_to_get_it(tmp_path, name):
    with pytest.raises(DataMissing, match=f"partcore.data download {name}"):
        load(DataSpec(dataset=name), tmp_path, seed=1)


def test_svhn_and_cifar_formats_are_read(tmp_path, monkeypatch):
    """The published files in small: same formats, same names; their own md5 are put in place."""
    import hashlib

    import numpy as np
    from scipy.io import savemat
    from torchvision.datasets import CIFAR10, SVHN

    rng = np.random.default_rng(0)
    lists = {}
    for split, name in (("train", "train_32x32.mat"), ("test", "test_32x32.mat")):
        x = rng.integers(0, 255, (32, 32, 3, 20), dtype=np.uint8)
        savemat(tmp_path / name, {"X": x, "y": np.arange(1, 21)[:, None] % 10 + 1})
        md5 = hashlib.md5((tmp_path / name).read_bytes()).hexdigest()
        lists[split] = ["url", name, md5]
    monkeypatch.setattr(SVHN, "split_list", lists)
    split = load(DataSpec(dataset="svhn", validation_fraction=0.0), tmp_path, seed=1)
    assert split.train.x.shape == (20, 3, 32, 32)
    assert split.train.y.max() <= 9

    base = tmp_path / CIFAR10.base_folder
    base.mkdir()
    named = {}
    for name in ("data_batch_1", "test_batch"):
        data = rng.integers(0, 255, (10, 3072), dtype=np.uint8)
        (base / name).write_bytes(pickle.dumps({"data": data, "labels": list(range(10))}))
        named[name] = hashlib.md5((base / name).read_bytes()).hexdigest()
    meta = {"label_names": [f"class {i}" for i in range(10)]}
    (base / "batches.meta").write_bytes(pickle.dumps(meta))
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", named["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", named["test_batch"]]])
    md5 = hashlib.md5((base / "batches.meta").read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5})
    split = load(DataSpec(dataset="cifar10", validation_fraction=0.0), tmp_path, seed=1)
    assert split.train.x.shape == (10, 3, 32, 32)
    assert split.classes[3] == "class 3"
    with (base / "test_batch").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(DataMissing):
        load(DataSpec(dataset="cifar10"), tmp_path, seed=1)


class TestSplitting:
    def test_any_prefix_of_a_balanced_order_is_balanced(self):
        y = torch.tensor([0] * 100 + [1] * 50 + [2] * 50)
        order = balanced_order(y, seed=1, purpose="x")
        assert sorted(order.tolist()) == list(range(200))
        for count in (4, 20, 100):
            assert y[order[:count]].bincount(minlength=3).tolist() == [
                count // 2,
                count // 4,
                count // 4,
            ]

    def test_what_is_held_out_is_not_kept(self):
        images = numbered(torch.zeros(40, 1, 2, 2, dtype=torch.uint8), torch.arange(40) % 4)
        kept, held = hold_out(images, 0.25, seed=1)
        assert len(held) == 10
        assert sorted([*kept.ids.tolist(), *held.ids.tolist()]) == list(range(40))


class TestAugmentation:
    def images(self):
        return torch.randint(1, 255, (32, 3, 6, 6), dtype=torch.uint8, generator=generator(0))

    def test_every_result_is_a_crop_of_the_padded_image_or_of_its_mirror(self):
        x = self.images()
        out = Augmentation(pad=2, flip=True)(x, generator=generator(1))
        padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
        mirrored = 0
        for before, after in zip(padded, out, strict=True):
            crops = [before[:, r : r + 6, c : c + 6] for r in range(5) for c in range(5)]
            straight = any(torch.equal(after, crop) for crop in crops)
            flipped = any(torch.equal(after, crop.flip(2)) for crop in crops)
            assert straight or flipped
            mirrored += flipped
        assert 5 < mirrored < 27

    def test_nothing_asked_changes_nothing(self):
        x = self.images()
        assert torch.equal(Augmentation(pad=0, flip=False)(x, generator=generator(1)), x)

    def test_the_generator_decides(self):
        x, augment = self.images(), Augmentation(pad=2, flip=True)
        first, second = (augment(x, generator=generator(1)) for _ in range(2))
        assert torch.equal(first, second)
        assert not torch.equal(first, augment(x, generator=generator(2)))

    def test_to_unit(self):
        assert to_unit(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0.0, 1.0]


class TestModels:
    def build(self, name, *, channels=3, classes=10, seed=1):
        return NETWORKS[name](
            channels=channels,
            classes=classes,
            mean=torch.full((channels,), 0.4),
            std=torch.full((channels,), 0.2),
            generator=generator(seed),
        )

    @pytest.mark.parametrize("name", NETWORKS)
    def test_the_catalog_tells_the_truth(self, name):
        for (channels, classes), count in MODELS[name].parameters_at.items():
            model = self.build(name, channels=channels, classes=classes)
            assert parameter_count(model) == count
        assert grid_size(self.build(name), 3, 32) == (32 // MODELS[name].stride,) * 2

    def test_both_catalogs_name_the_same_models(self):
        assert {name for name in MODELS if not name.startswith(TORCHVISION)} == set(NETWORKS)

    def test_digits_have_a_grid_of_four_by_four(self):
        assert grid_size(self.build("small-cnn", channels=1), 1, 8) == (4, 4)

    @pytest.mark.parametrize("name", ["small-cnn", "resnet18"])
    def test_weights_are_a_function_of_the_generator(self, name):
        one, same, other = (self.build(name, seed=seed).state_dict() for seed in (1, 1, 2))
        assert all(torch.equal(one[k], same[k]) for k in one)
        assert not torch.equal(one["head.linear.weight"], other["head.linear.weight"])

    @pytest.mark.parametrize("name", ["small-cnn", "resnet18"])
    def test_logits_are_the_head_of_the_features_which_are_not_negative(self, name):
        model = self.build(name).eval()
        x = torch.rand(2, 3, 32, 32, generator=generator(0))
        features = model.features(x)
        assert features.min() >= 0
        torch.testing.assert_close(model.head(features), model(x))

    def test_images_are_normalised_inside(self):
        model = self.build("small-cnn")
        grey = torch.full((1, 3, 4, 4), 0.4)
        torch.testing.assert_close(model.normalise(grey), torch.zeros(1, 3, 4, 4))

    def test_convolutions_start_with_he_variance(self):
        convolution = torch.nn.Conv2d(64, 128, 3)
        initialise(convolution, generator(0))
        assert convolution.weight.detach().std() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.05)


def test_specs_of_every_dataset_have_a_loader():
    for name in DATASETS:
        extra = {"folder": "x", "classes": 2} if name == "image-folder" else {}
        spec = expand({"preset": "part", "data": {"dataset": name, **extra}})
        if name == "digits":
            continue
        with pytest.raises(DataMissing):
            load(spec.data, Path("nowhere"), seed=1)
