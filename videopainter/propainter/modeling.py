"""ProPainter as transformers knows models."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from videopainter.ops.soft_split import Patches
from videopainter.propainter import streaming
from videopainter.propainter.configuration import OPTIONS, ProPainterConfig, check_options
from videopainter.propainter.flow_completion import FlowCompletion
from videopainter.propainter.generator import Generator
from videopainter.propainter.optical_flow import OpticalFlow
from videopainter.propainter.transformer import WindowAttention, around
