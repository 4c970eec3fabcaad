"""What the figures mean, word for word as `python -m videopainter.metrics --help` tells it."""

PROTOCOL = """\
folders:
  GROUND_TRUTH  CLIP/00000.jpg ..., or the root of DAVIS or YouTube-VOS: JPEGImages/[480p/]CLIP/00000.jpg ...
  MASKS         CLIP/00000.png ... (moving, such as objects), CLIP.png or a CLIP/ of one image (stationary), or
                one image for all clips; or the root: test_masks/CLIP/ or Annotations/[480p/]CLIP/. Not black = hole.
                The clips measured are those that have masks; --clips picks some.
  RESULTS       CLIP/00000.png ..., CLIP.mp4, or CLIP/result.mp4 of infer/inpaint.py
  Frame i is frame i in all three. A missing clip or frame is an error, never left out of a mean.
  One clip is measured if all three are files or folders of frames.

protocol (FuseFormer, E2FGVI, ProPainter):
  Two kinds of masks over untouched video, so that the truth in the hole is known: stationary ones, and objects'
  masks that move. Measuring within an object's own annotation compares with the object itself.
  Everything is resized to 432 x 240: frames bicubic with antialiasing (FuseFormer, E2FGVI; --resize bilinear is
  ProPainter's), masks to the nearest pixel. The published evaluations grow the masks by 4 pixels (--dilate 4) before
  they paint.
  PSNR    of 0 ... 255 in dB, mean over the frames of all clips; a frame without error counts as 60 dB.
  SSIM    scikit-image's with data_range=255, by channel and win_size=65 (flat window, sample covariances; no
          Gaussian), mean over the frames of all clips.
  E_warp  Lai et al. 2018: mean squared difference, of colours 0 ... 1, between a result and the next one pulled back
          along the flow of the true frames, where nothing is occluded; mean over pairs, then over clips; in units of
          1e-3. The flow here is OpenCV's DIS, which needs no weights; papers used FlowNet2. Figures of different
          flows cannot be compared.
  VFID    with --i3d FILE (i3d_rgb_imagenet.pt as released): Frechet distance of the I3D features (1024, the mean of
          Mixed_5c) of results and true clips, colours 0 ... 1, a whole clip at a time. The published evaluations
          leave batch normalisation in training mode: --i3d_statistics clip does so, and holds each clip in memory
          whole. The default is the stored statistics, which streams; the two cannot be compared.
  In the hole, which the published tables do not give: PSNR over its pixels; SSIM's map over its pixels; E_warp where
  this or the next frame's hole is touched (Szeto and Corso 2022); VFID of features weighted by the hole's share of
  their 8 frames of 32 x 32 pixels. Means over what has a hole.
  LPIPS and CLIP are measured by --benchmark.
"""
