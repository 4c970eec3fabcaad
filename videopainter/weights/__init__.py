"""Which weights there are, whether what lies there is whole, and the one way in which they are loaded.

`catalogue` knows the files, `check` looks into them, `load` gives their tensors. Nothing heavy is imported here.
"""

from videopainter.weights.catalogue import (
    ENVIRONMENT,
    MANIFESTS,
    NEEDED,
    PARTS,
    RECORDS,
    FileSet,
    Network,
    Part,
    absent,
    command,
    complete_set,
    manifest,
    missing,
    network_files,
    started,
    weights_folder,
    why_missing,
)
from videopainter.weights.check import check_network, compare, problems, tensor_shapes
from videopainter.weights.errors import (
    WeightsError,
    check_numbers,
    parse_json,
    plain_file,
    read_config,
    read_json,
)

__all__ = [
    "ENVIRONMENT",
    "MANIFESTS",
    "NEEDED",
    "PARTS",
    "RECORDS",
    "FileSet",
    "Network",
    "Part",
    "WeightsError",
    "absent",
    "check_network",
    "check_numbers",
    "command",
    "compare",
    "complete_set",
    "manifest",
    "missing",
    "network_files",
    "parse_json",
    "plain_file",
    "problems",
    "read_config",
    "read_json",
    "started",
    "tensor_shapes",
    "weights_folder",
    "why_missing",
]
