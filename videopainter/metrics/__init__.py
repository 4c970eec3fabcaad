"""How good results are: PSNR, SSIM, E_warp and VFID, over the frame and in the hole.

`python -m videopainter.metrics RESULTS GROUND_TRUTH MASKS` measures folders of clips as the video inpainting papers
do; its protocol is in `protocol.py` and its `--help`. From Python: `layout.find_clips`, `evaluate.evaluate`, with
`vfid.VideoFeatures` where there are I3D weights.

`psnr`, `ssim` and `e_warp` are quick measures of arrays in the hole, which the benchmarks and the batch use: SSIM of
luma with the usual Gaussian window, E_warp over pixels whose flow agrees forth and back within one pixel.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"hole": ["e_warp", "psnr", "ssim"]}
)
