"""The trained network as one ONNX file that OpenCV runs; needs the packages onnx and torch."""

import json
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from videopainter.segmentation.clicks.training.network import CANDIDATES, HINTS, ClickNetwork

FORMAT = "videopainter click network 1"


def fold(net: ClickNetwork) -> ClickNetwork:
    """Put each batch normalisation into the convolution before it: the same numbers in fewer passes."""
    net.eval()
    for module in net.modules():
        if isinstance(module, nn.Sequential) and len(module) == 3 and isinstance(module[1], nn.BatchNorm2d):
            module[0] = fuse_conv_bn_eval(module[0], module[1])
            module[1] = nn.Identity()
    return net


class _Probabilities(nn.Module):
    """What leaves the file: probabilities at the size of the picture, and scores."""

    def __init__(self, net: ClickNetwork):
        super().__init__()
        self.net = net

    def forward(self, picture, hints):
        logits, scores = self.net(picture, hints)
        return torch.sigmoid(logits), scores


def _halve(model) -> None:
    """Keep the weights in half precision, half the bytes; a cast brings each back before it is used."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.raw_data) > 256:
            name, half = tensor.name, tensor.name + "_half"
            values = numpy_helper.to_array(tensor).astype("float16")
            tensor.CopyFrom(numpy_helper.from_array(values, half))
            casts.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT, name=f"cast_{name}"))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def export(weights: Path, output: Path, about: dict | None = None) -> None:
    """Write the network of a training's `weights` to the ONNX file `output`.

    Height and width stay open (multiples of 32). `about`: facts that are kept in the file's metadata.
    """
    import onnx

    net = ClickNetwork()
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    example = (torch.zeros(1, 3, 256, 256), torch.zeros(1, HINTS, 256, 256))
    output = Path(output)
    temporary = output.with_suffix(".part")
    axes = {name: {2: "height", 3: "width"} for name in ("picture", "hints")}
    torch.onnx.export(
        _Probabilities(fold(net)).eval(),
        example,
        str(temporary),
        input_names=["picture", "hints"],
        output_names=["masks", "scores"],
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(str(temporary))
    _halve(model)
    facts = {"format": FORMAT, "candidates": CANDIDATES, **(about or {})}
    for key, value in facts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
    onnx.save(model, str(temporary))
    temporary.replace(output)
