"""A training that goes on from an exported network: the inverse of `export`, and the mean of what was and what came."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from videopainter.segmentation.clicks.training.network import ClickNetwork

NORM = 1.0  # length of a convolution's weights before a normalisation, for each of its outputs


def normalisations(net: nn.Module):
    """The pairs of convolution and batch normalisation that `export` folds into one."""
    for module in net.modules():
        if isinstance(module, nn.Sequential) and len(module) == 3 and isinstance(module[1], nn.BatchNorm2d):
            yield module[0], module[1]


def from_onnx(path: Path, batches: list[tuple[Tensor, Tensor]]) -> ClickNetwork:
    """The network of an exported file, ready to be trained further.

    The file holds convolutions that took the normalisation behind them in. Each normalisation gets the mean and the
    variance that its convolution has over the `batches` as running statistics, and the gain and the shift by which
    nothing changes; what it says in `eval` mode is what the file says.

    Args:
        path: What `export` wrote.
        batches: Pictures `(n, 3, h, w)` and hints `(n, 5, h, w)` as `ClickNetwork.forward` takes them.

    Raises:
        ValueError: The file is not an export of this network.
    """
    import onnx
    from onnx import numpy_helper

    weights = {}
    for tensor in onnx.load(str(path)).graph.initializer:
        name = tensor.name.removesuffix("_half").removeprefix("net.")
        weights[name] = torch.from_numpy(numpy_helper.to_array(tensor).astype("float32"))
    net = ClickNetwork()
    shifts = {}
    places = {id(module): name for name, module in net.named_modules()}
    for convolution, norm in normalisations(net):
        shifts[places[id(norm)]] = weights.pop(places[id(convolution)] + ".bias", None)
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
    own = net.state_dict()
    wanted = {name for name in own if name.rpartition(".")[0] not in shifts}
    fits = all(name in weights and weights[name].shape == own[name].shape for name in wanted)
    if not fits or any(shift is None for shift in shifts.values()):
        raise ValueError(f"{path} is not an export of this click network.")
    with torch.no_grad():
        for name in wanted:
            own[name].copy_(weights[name])
        for name, shift in shifts.items():
            own[name + ".bias"].copy_(shift)
    _measure(net, batches)
    return net


@torch.no_grad()
def _measure(net: ClickNetwork, batches) -> None:
    """Running statistics from the batches, without a change of what comes out."""
    sums = {}

    def seen(module, _, output):
        values = output.transpose(0, 1).flatten(1).double()
        count, total, squares = sums.get(id(module), (0, 0, 0))
        sums[id(module)] = count + values.shape[1], total + values.sum(1), squares + (values**2).sum(1)

    hooks = [convolution.register_forward_hook(seen) for convolution, _ in normalisations(net)]
    net.eval()
    for picture, hints in batches:
        net(picture, hints)
    for hook in hooks:
        hook.remove()
    for convolution, norm in normalisations(net):
        count, total, squares = sums[id(convolution)]
        mean = (total / count).float()
        variance = (squares / count - (total / count) ** 2).clamp(min=1e-8).float()
        # The weights take a common length, so that a learning rate means the same to all of them.
        length = convolution.weight.flatten(1).norm(dim=1).clamp(min=1e-8) / NORM
        convolution.weight /= length.view(-1, 1, 1, 1)
        norm.running_mean.copy_(mean / length)
        norm.running_var.copy_(variance / length**2)
        norm.weight.copy_(length * torch.sqrt(norm.running_var + norm.eps))
        norm.bias.add_(mean)


def average(files: Sequence[Path], output: Path) -> None:
    """Write to `output` the network whose weights are the means of those of exported files.

    Of a network and of what a training that began with it made of it, the mean is often better than each (Wortsman et
    al. 2022, "Model soups").

    Raises:
        ValueError: The files do not hold the same tensors.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(files[0]))
    others = [
        {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(file)).graph.initializer}
        for file in files
    ]
    for tensor in model.graph.initializer:
        same = [other.get(tensor.name) for other in others]
        if any(one is None or (one.shape, one.dtype) != (same[0].shape, same[0].dtype) for one in same):
            raise ValueError(f"{', '.join(map(str, files))} are not exports of the same network.")
        if same[0].dtype.kind == "f":
            mean = np.mean([one.astype("float32") for one in same], axis=0)
            tensor.CopyFrom(numpy_helper.from_array(mean.astype(same[0].dtype), tensor.name))
    output = Path(output)
    temporary = output.with_suffix(".part")
    onnx.save(model, str(temporary))
    temporary.replace(output)
