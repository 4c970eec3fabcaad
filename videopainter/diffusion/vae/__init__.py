"""CogVideoX's VAE, with the same numbers in less memory: layers without waste, and decoding as a stream."""

from videopainter.diffusion.vae.decode import OutputCutter, StreamingDecoder, latents_to_decode
from videopainter.diffusion.vae.lean import make_lean

__all__ = ["OutputCutter", "StreamingDecoder", "latents_to_decode", "make_lean"]
