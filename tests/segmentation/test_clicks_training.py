"""What the training of the click network does beside training: a start from an exported file, views, clicks."""

import cv2
import numpy as np
import pytest
import torch

from videopainter.segmentation.clicks.network import WEIGHTS, Box, ClickNetwork, Point
from videopainter.segmentation.clicks.training import command
from videopainter.segmentation.clicks.training.export import export
from videopainter.segmentation.clicks.training.former import average, from_onnx, normalisations
from videopainter.segmentation.clicks.training.network import HINTS


def picture(seed: int = 0, size: int = 128):
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.uniform(0, 255, (size, size, 3)).astype(np.float32), (0, 0), 4)
    image = np.clip((image - image.mean()) * 6 + 128, 0, 255)
    cv2.circle(image, (size // 2, size // 3), size // 5, (220, 40, 60), -1)
    return image.astype(np.uint8)


def batches(count: int = 2, size: int = 128):
    out = []
    for k in range(count):
        images = np.stack([picture(2 * k + j, size) for j in range(2)]).transpose(0, 3, 1, 2)
        hints = torch.zeros(2, HINTS, size, size)
        hints[:, 1, 40:50, 60:70] = 1
        out.append((torch.from_numpy(images).float(), hints))
    return out


def test_a_training_that_begins_with_an_exported_file_begins_with_the_same_network(tmp_path):
    net = from_onnx(WEIGHTS, batches())
    torch.save(net.state_dict(), tmp_path / "start.pth")
    export(tmp_path / "start.pth", tmp_path / "again.onnx")
    frame, box, points = picture(7), Box(0, 0, 128, 128), [Point(64, 42)]
    masks, scores = ClickNetwork().predict(frame, box, points)
    again, other = ClickNetwork(tmp_path / "again.onnx").predict(frame, box, points)
    # Weights are kept in half precision and were scaled before they were rounded a second time: 11 bits, 60 layers.
    np.testing.assert_allclose(again, masks, atol=0.02)
    np.testing.assert_allclose(other, scores, atol=0.01)
    assert np.abs(again - masks).mean() < 1e-3


def test_its_normalisations_know_what_their_convolutions_give(tmp_path):
    given = batches()
    net = from_onnx(WEIGHTS, given)
    seen = {}
    for convolution, norm in normalisations(net):
        convolution.register_forward_hook(
            lambda _m, _i, out, norm=norm: seen.setdefault(id(norm), []).append(out)
        )
    with torch.no_grad():
        for one in given:
            net(*one)
    for _, norm in normalisations(net):
        values = torch.cat(seen[id(norm)]).transpose(0, 1).flatten(1)
        torch.testing.assert_close(values.mean(1), norm.running_mean, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(values.var(1, correction=0), norm.running_var, atol=1e-3, rtol=1e-2)


def test_another_onnx_file_is_one_sentence(tmp_path):
    import onnx

    model = onnx.load(str(WEIGHTS))
    del model.graph.initializer[5:]
    onnx.save(model, str(tmp_path / "other.onnx"))
    with pytest.raises(ValueError, match="is not an export of this click network"):
        from_onnx(tmp_path / "other.onnx", batches())


def weights_of(path):
    import onnx

    tensors = onnx.load(str(path)).graph.initializer
    return {tensor.name: onnx.numpy_helper.to_array(tensor).astype(np.float32) for tensor in tensors}


def test_the_mean_of_two_networks(tmp_path):
    import onnx

    model = onnx.load(str(WEIGHTS))
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float16:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float16(0.5), tensor.name))
    onnx.save(model, str(tmp_path / "half.onnx"))
    average([WEIGHTS, tmp_path / "half.onnx"], tmp_path / "mean.onnx")
    one, mean = weights_of(WEIGHTS), weights_of(tmp_path / "mean.onnx")
    halved = {
        name for name, values in weights_of(tmp_path / "half.onnx").items() if (values != one[name]).any()
    }
    assert len(halved) > 50
    for name in one:
        np.testing.assert_allclose(
            mean[name], one[name] * (0.75 if name in halved else 1), rtol=1e-3, atol=1e-6
        )
    del model.graph.initializer[5:]
    onnx.save(model, str(tmp_path / "other.onnx"))
    with pytest.raises(ValueError, match="are not exports of the same network"):
        average([WEIGHTS, tmp_path / "other.onnx"], tmp_path / "mean.onnx")


def test_a_mean_needs_a_network_to_begin_with(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main(["--work", str(tmp_path), "--average"])
    assert "--average needs an exported network to begin with" in capsys.readouterr().err
