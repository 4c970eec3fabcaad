"""What a ProPainter network is made of, and how it goes about a video."""

from transformers import PretrainedConfig

from videopainter.utils.checks import MOST_LAYERS, whole_number, whole_numbers

OPTIONS = ("neighbor_length", "ref_stride", "subvideo_length", "raft_iter")
LARGEST_WINDOW = 64  # rows or columns of a window, a patch or a pooled token


class ProPainterConfig(PretrainedConfig):
    """Configuration of `ProPainterModel`; the defaults are the released networks.

    Args:
        neighbor_length: frames around the current one that are painted together, 2 or more.
        ref_stride: frames from one reference to the next, 1 or more.
        subvideo_length: frames that flow completion and propagation see at once, 1 or more; a longer video is
            worked through in overlapping pieces.
        raft_iter: refinement steps of the optical flow, 1 or more.
        num_channels: of the features of all three networks; a multiple of 8 and of `deform_groups`.
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: of the transformer; the last
            is a multiple of the area of `kernel_size`.
        window_size, pool_size: (rows, columns) of tokens of an attention window, and of a pooled token.
        kernel_size, conv2d_stride, padding_inpaint_generator: (height, width) of the patches that become tokens.
        deform_groups: groups of the deformable convolutions.
        channels: of the frame encoders of the optical flow at a half, a quarter and an eighth of the size.
        correlation_levels, correlation_radius: of the optical flow.
        initializer_range: standard deviation of freshly made weights.

    Raises ValueError for options that no video could be painted with.
    """

    model_type = "propainter"

    def __init__(
        self,
        neighbor_length: int = 10,
        ref_stride: int = 10,
        subvideo_length: int = 80,
        raft_iter: int = 20,
        num_channels: int = 128,
        hidden_size: int = 512,
        num_hidden_layers: int = 8,
        num_attention_heads: int = 4,
        intermediate_size: int = 1960,
        window_size: tuple[int, int] = (5, 9),
        pool_size: tuple[int, int] = (4, 4),
        kernel_size: tuple[int, int] = (7, 7),
        conv2d_stride: tuple[int, int] = (3, 3),
        padding_inpaint_generator: tuple[int, int] = (3, 3),
        deform_groups: int = 16,
        channels: tuple[int, int, int] = (64, 96, 128),
        correlation_levels: int = 4,
        correlation_radius: int = 4,
        initializer_range: float = 0.02,
        **kwargs,
    ):
        for name, value in (
            *(("num_channels", num_channels), ("hidden_size", hidden_size), ("deform_groups", deform_groups)),
            *(("num_attention_heads", num_attention_heads), ("intermediate_size", intermediate_size)),
        ):
            whole_number(name, value)
        for name, value, most in (
            ("num_hidden_layers", num_hidden_layers, MOST_LAYERS),
            ("correlation_levels", correlation_levels, 16),
            ("correlation_radius", correlation_radius, 64),
        ):
            whole_number(name, value, most=most)
        self.neighbor_length = neighbor_length
        self.ref_stride = ref_stride
        self.subvideo_length = subvideo_length
        self.raft_iter = raft_iter
        self.num_channels = num_channels
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        # Lists, as JSON gives them back: a configuration equals itself after saving and loading.
        self.window_size = list(whole_numbers("window_size", window_size, 2, most=LARGEST_WINDOW))
        self.pool_size = list(whole_numbers("pool_size", pool_size, 2, most=LARGEST_WINDOW))
        self.kernel_size = list(whole_numbers("kernel_size", kernel_size, 2, most=LARGEST_WINDOW))
        self.conv2d_stride = list(whole_numbers("conv2d_stride", conv2d_stride, 2, most=LARGEST_WINDOW))
        self.padding_inpaint_generator = list(
            whole_numbers("padding_inpaint_generator", padding_inpaint_generator, 2, 0, LARGEST_WINDOW)
        )
        self.deform_groups = deform_groups
        self.channels = list(whole_numbers("channels", channels, 3))
        self.correlation_levels = correlation_levels
        self.correlation_radius = correlation_radius
        self.initializer_range = initializer_range
        check_options(neighbor_length, ref_stride, subvideo_length, raft_iter)
        super().__init__(**kwargs)


def check_options(neighbor_length: int, ref_stride: int, subvideo_length: int, raft_iter: int) -> None:
    """Raise ValueError for options that no video could be painted with."""
    least = {"neighbor_length": 2, "ref_stride": 1, "subvideo_length": 1, "raft_iter": 1}
    given = (neighbor_length, ref_stride, subvideo_length, raft_iter)
    for (name, minimum), value in zip(least.items(), given):
        whole_number(name, value, minimum)
