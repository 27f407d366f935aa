"""Published checkpoints, written by networks of this file in the published key layout."""

import copy
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - PyTorch's own habit

from domain.errors import CheckpointInvalid
from partcore import checkpoint
from partcore.models import MODELS, CamClassifier, wide_resnet
from partcore.randomness import generator
from partcore.robustbench import LAYOUTS, Normalisation, convert, main, read, translate
from tests.partcore.exact import EQUAL

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


# -- the published networks, as their state dicts name their parts --------------------------------


def conv3(before: int, width: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, width, 3, stride, 1, bias=False)


class WideBlock(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(before), conv3(before, width, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), conv3(width, width)
        self.convShortcut = None
        if before != width:
            self.convShortcut = nn.Conv2d(before, width, 1, stride, bias=False)

    def forward(self, x):
        out = F.relu(self.bn1(x))
        if self.convShortcut is not None:
            x = self.convShortcut(out)
        return x + self.conv2(F.relu(self.bn2(self.conv1(out))))


class WideGroup(nn.Module):
    def __init__(self, blocks, before, width, stride):
        super().__init__()
        first = WideBlock(before, width, stride)
        self.layer = nn.Sequential(first, *(WideBlock(width, width, 1) for _ in range(blocks - 1)))

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    """TRADES' and RobustBench's, with the group that is never used."""

    def __init__(self, depth, widen, *, unused=False):
        super().__init__()
        n, widths = (depth - 4) // 6, [16 * widen, 32 * widen, 64 * widen]
        self.conv1 = conv3(3, 16)
        self.block1 = WideGroup(n, 16, widths[0], 1)
        if unused:
            self.sub_block1 = WideGroup(n, 16, widths[0], 1)
        self.block2 = WideGroup(n, widths[0], widths[1], 2)
        self.block3 = WideGroup(n, widths[1], widths[2], 2)
        self.bn1, self.fc = nn.BatchNorm2d(widths[2]), nn.Linear(widths[2], 10)

    def forward(self, x):
        out = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.avg_pool2d(F.relu(self.bn1(out)), out.shape[2]).flatten(1))


class PreActBlock(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(before), conv3(before, width, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), conv3(width, width)
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False))

    def forward(self, x):
        out = F.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        return self.conv2(F.relu(self.bn2(self.conv1(out)))) + shortcut


class BasicBlock(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.conv1, self.bn1 = conv3(before, width, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv3(width, width), nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != width:
            project = nn.Conv2d(before, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(project, nn.BatchNorm2d(width))

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class ResNet18(nn.Module):
    """kuangliu's, in RobustBench's keys; ``block`` decides whether activation comes first."""

    def __init__(self, block, *, bn_before_fc=True):
        super().__init__()
        self.first = block is BasicBlock
        self.conv1 = conv3(3, 64)
        if self.first:
            self.bn1 = nn.BatchNorm2d(64)
        before = 64
        for number, (width, stride) in enumerate(((64, 1), (128, 2), (256, 2), (512, 2)), 1):
            blocks = nn.Sequential(block(before, width, stride), block(width, width, 1))
            self.add_module(f"layer{number}", blocks)
            before = width
        if not self.first and bn_before_fc:
            self.bn = nn.BatchNorm2d(512)
        self.linear = nn.Linear(512, 10)

    def forward(self, x):
        out = self.conv1(x)
        if self.first:
            out = F.relu(self.bn1(out))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        if not self.first:
            out = F.relu(self.bn(out))
        return self.linear(F.avg_pool2d(out, out.shape[2]).flatten(1))


class Normalised(nn.Module):
    """RobustBench's subclasses: buffers beside the layers."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.mu = torch.tensor(MEAN).view(1, 3, 1, 1)
        self.sigma = torch.tensor(STD).view(1, 3, 1, 1)

    def forward(self, x):
        return self.network((x - self.mu) / self.sigma)

    def published(self) -> dict[str, Tensor]:
        return self.network.state_dict() | {"mu": self.mu, "sigma": self.sigma}


def trained_like(network: nn.Module) -> nn.Module:
    """Weights and statistics none of which is the default."""
    draw = generator(5)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=draw)
                module.bias.normal_(std=0.1, generator=draw)
                module.running_mean.normal_(std=0.1, generator=draw)
                module.running_var.uniform_(0.5, 1.5, generator=draw)
                module.num_batches_tracked.fill_(7)
            elif isinstance(module, nn.Conv2d):
                fan = module.out_channels * module.kernel_size[0] ** 2
                module.weight.normal_(std=(1 / fan) ** 0.5, generator=draw)
    return network.eval()


def imported(file: Path, model: str) -> CamClassifier:
    """Our network of ``model``, loaded strictly from a file of the lab."""
    tensors, _ = checkpoint.load(file)
    with torch.device("meta"):
        ones = torch.ones(3)
        network = MODELS[model](channels=3, classes=10, mean=ones, std=ones, generator=generator(0))
    network.load_state_dict(checkpoint.under(tensors, "model"), assign=True)
    return network.eval()


def assert_same_logits(ours: nn.Module, theirs: nn.Module, *, size: int = 32) -> None:
    ours, theirs = copy.deepcopy(ours).double(), copy.deepcopy(theirs).double()
    x = torch.rand(2, 3, size, size, generator=generator(6), dtype=torch.float64)
    with torch.no_grad():
        expected = theirs(x)
        assert expected.std() > 0.01, "the comparison would say nothing"
        torch.testing.assert_close(ours(x), expected, **EQUAL)


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.fixture(scope="module")
def preact() -> nn.Module:
    return trained_like(ResNet18(PreActBlock))


@pytest.fixture
def state(preact) -> dict[str, Tensor]:
    return dict(preact.state_dict())


# -- what is imported -----------------------------------------------------------------------------


def test_preact_resnet18_with_its_normalisation_inside(tmp_path, preact):
    theirs = Normalised(preact)
    file = saved(tmp_path / "Rice.pt", {"state_dict": theirs.published(), "epoch": 106})
    out = tmp_path / "rice.safetensors"
    assert main([str(file), "--model", "preact-resnet18", "--out", str(out)]) == 0
    assert_same_logits(imported(out, "preact-resnet18"), theirs)


def test_resnet18_saved_by_data_parallel(tmp_path):
    theirs = trained_like(ResNet18(BasicBlock))
    wrapped = {f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}
    file = saved(tmp_path / "a.pt", wrapped)
    convert(file, tmp_path / "a.safetensors", model="resnet18")
    assert_same_logits(imported(tmp_path / "a.safetensors", "resnet18"), theirs)
    tensors, metadata = checkpoint.load(tmp_path / "a.safetensors")
    assert metadata["model"] == "resnet18"
    assert metadata["imported"]["file"] == "a.pt"
    assert len(metadata["imported"]["sha256"]) == 64
    assert (metadata["mean"], metadata["std"]) == ([0.0] * 3, [1.0] * 3)
    assert all(name.startswith("model/") for name in tensors)


def test_wide_resnet_of_trades_with_the_group_it_never_used(tmp_path):
    theirs = trained_like(WideResNet(28, 10, unused=True))
    file = saved(tmp_path / "Carmon.pt", {"state_dict": theirs.state_dict()})
    convert(file, tmp_path / "a.safetensors", model="wrn-28-10")
    assert_same_logits(imported(tmp_path / "a.safetensors", "wrn-28-10"), theirs, size=16)


def test_every_name_and_shape_of_wrn_34_10():
    with torch.device("meta"):
        theirs = WideResNet(34, 10).state_dict()
        ones = torch.ones(3)
        ours = MODELS["wrn-34-10"](
            channels=3, classes=10, mean=ones, std=ones, generator=generator(0)
        ).state_dict()
    translated = {
        LAYOUTS["wrn-34-10"].theirs(name): tensor.shape
        for name, tensor in ours.items()
        if not name.startswith("normalise.")
    }
    assert translated == {name: tensor.shape for name, tensor in theirs.items()}


def test_a_narrow_wide_resnet_whose_first_group_keeps_its_width(monkeypatch):
    monkeypatch.setattr("partcore.robustbench.MODELS", {"wrn-28-10": wide_resnet(10, 1)})
    theirs = trained_like(WideResNet(10, 1))
    ours = wide_resnet(10, 1)(
        channels=3, classes=10, mean=torch.zeros(3), std=torch.ones(3), generator=generator(0)
    )
    ours.load_state_dict(translate(theirs.state_dict(), "wrn-28-10"))
    assert_same_logits(ours.eval(), theirs)


def test_a_normalisation_from_outside(tmp_path, preact, state, capsys):
    file = saved(tmp_path / "a.pt", {"last": state, "best": {}})
    out = tmp_path / "a.safetensors"
    options = ["--entry", "last", "--mean", *map(str, MEAN), "--std", *map(str, STD)]
    assert main([str(file), "--model", "preact-resnet18", "--out", str(out), *options]) == 0
    assert "mean [0.491" in capsys.readouterr().out
    assert_same_logits(imported(out, "preact-resnet18"), Normalised(preact))


def test_half_precision_and_files_without_counters(state):
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }
    ours = translate(halves, "preact-resnet18")
    assert ours["body.bn.num_batches_tracked"] == 0
    assert ours["head.linear.bias"].dtype == torch.float32
    torch.testing.assert_close(ours["head.linear.bias"], state["linear.bias"].half().float())


def test_other_numbers_of_classes(state):
    state |= {"linear.weight": torch.rand(100, 512), "linear.bias": torch.rand(100)}
    assert translate(state, "preact-resnet18")["head.linear.weight"].shape == (100, 512)


# -- what is refused ------------------------------------------------------------------------------


def without(name: str) -> Callable[[dict], None]:
    return lambda state: state.pop(name)


def setting(name: str, tensor: Tensor) -> Callable[[dict], None]:
    return lambda state: state.update({name: tensor})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("layer3.0.shortcut.0.weight"), r"missing: layer3\.0\.shortcut\.0\.weight"),
        (without("linear.weight"), r"missing: linear\.weight"),
        (without("bn.running_var"), r"missing: bn\.running_var"),
        (setting("linear2.bias", torch.zeros(1)), r"unexpected: linear2\.bias"),
        (setting("sub_block1.x", torch.zeros(1)), r"unexpected: sub_block1\.x"),
        (
            setting("layer1.0.conv1.weight", torch.zeros(64, 64, 1, 1)),
            r"another shape: layer1\.0\.conv1\.weight \(64, 64, 1, 1\) instead of \(64, 64, 3, 3\)",
        ),
        (setting("bn.weight", torch.zeros(512, dtype=torch.int64)), r"kind: bn\.weight"),
        (setting("bn.weight", torch.full((512,), torch.nan)), r"bn\.weight is not finite"),
        (setting("bn.weight", torch.full((512,), torch.inf)), r"bn\.weight is not finite"),
        (
            setting("bn.bias", torch.full((512,), 1e300, dtype=torch.float64)),
            r"bn\.bias is not finite",
        ),
        (setting("bn.running_var", torch.full((512,), -1.0)), r"running_var is negative"),
        (setting("mu", torch.zeros(1, 3, 1, 1)), "1 means and 0 deviations"),
    ],
)
def test_a_state_of_another_network_is_refused_by_name(state, change, message):
    change(state)
    with pytest.raises(CheckpointInvalid, match=message):
        translate(state, "preact-resnet18")


def test_long_lists_are_cut(state):
    with pytest.raises(CheckpointInvalid, match=r"missing: .* and \d+ more; unexpected: "):
        translate(state, "wrn-28-10")


def test_the_form_without_the_last_batch_norm_is_refused():
    theirs = ResNet18(PreActBlock, bn_before_fc=False).state_dict()
    with pytest.raises(CheckpointInvalid, match=r"missing: bn\.weight, bn\.bias"):
        translate(theirs, "preact-resnet18")


@pytest.mark.parametrize(
    "normalisation",
    [Normalisation((0.5,), (0.5,)), Normalisation(MEAN, ()), Normalisation(MEAN, (1, 0, 1))],
)
def test_a_normalisation_that_cannot_be(state, normalisation):
    with pytest.raises(CheckpointInvalid, match="needs 3 means and positive deviations"):
        translate(state, "preact-resnet18", normalisation)


def test_two_normalisations_are_one_too_many(state):
    state |= {"mu": torch.zeros(3), "sigma": torch.ones(3)}
    with pytest.raises(CheckpointInvalid, match="do not give another"):
        translate(state, "preact-resnet18", Normalisation(MEAN, STD))


class Running:
    """Pickled, it runs a command when it is read."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self):
        return os.system, (f"touch {self.touched}",)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: dump(content, path)])
def test_a_file_that_would_run_code_is_refused_and_not_run(tmp_path, state, write, capsys):
    touched, file, out = tmp_path / "touched", tmp_path / "evil.pt", tmp_path / "a.safetensors"
    write({"state_dict": state, "extra": Running(touched)}, file)
    assert main([str(file), "--model", "preact-resnet18", "--out", str(out)]) == 1
    told = capsys.readouterr().err
    assert "evil.pt holds more than tensors" in told
    assert "weights_only" not in told
    assert not touched.exists()
    assert not out.exists()


def dump(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02}q.", b"PK\x03\x04", None])
def test_what_is_no_file_of_pytorch_is_refused(tmp_path, content):
    file = tmp_path / "a.pt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointInvalid, match=r"a\.pt"):
        read(file)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_and_altered_files_are_refused_or_read(tmp_path, zipped):
    file = tmp_path / "a.pt"
    content = {"fc.weight": torch.rand(4, 4), "bn.num_batches_tracked": torch.tensor(1)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    whole, draw = file.read_bytes(), generator(1)
    for _ in range(150):
        bytes_ = bytearray(whole)
        at, value = (int(torch.randint(n, (1,), generator=draw)) for n in (len(whole), 256))
        bytes_[at] = value
        file.write_bytes(bytes(bytes_[: at if value % 2 else None]))
        try:
            read(file)
        except CheckpointInvalid as error:
            assert "a.pt" in str(error)  # noqa: PT017 - either outcome is right


def test_a_state_dict_must_be_found_once(tmp_path):
    one = {"x": torch.zeros(1)}
    with pytest.raises(CheckpointInvalid, match=r"2 state dicts.*holds state_dict, model"):
        read(saved(tmp_path / "a.pt", {"state_dict": one, "model": one}))
    assert read(tmp_path / "a.pt", entry="model") == one
    with pytest.raises(CheckpointInvalid, match=r"0 state dicts under best.*state_dict, model"):
        read(tmp_path / "a.pt", entry="best")
    with pytest.raises(CheckpointInvalid, match="nothing by name"):
        read(saved(tmp_path / "b.pt", [1, 2]))


def test_a_name_may_not_be_there_twice(tmp_path):
    twice = {"fc.bias": torch.zeros(1), "module.fc.bias": torch.zeros(1)}
    with pytest.raises(CheckpointInvalid, match=r"holds fc\.bias twice"):
        read(saved(tmp_path / "a.pt", twice))


def test_a_small_file_may_not_claim_a_large_tensor(tmp_path):
    claimed = {"conv1.weight": torch.zeros(1).expand(10**6, 10**6)}
    with pytest.raises(CheckpointInvalid, match=r"conv1\.weight as a plain tensor"):
        read(saved(tmp_path / "a.pt", claimed))


def test_the_command_knows_its_models(capsys):
    with pytest.raises(SystemExit):
        main(["a.pt", "--model", "vgg", "--out", "b"])
    assert "preact-resnet18" in capsys.readouterr().err
