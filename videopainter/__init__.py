"""Take things out of videos, and put other things in.

    import videopainter
    videopainter.inpaint_video("holiday.mp4", clicks=[(310, 205)], output="without_him.mp4")

The public names are those of `__init__.pyi`; each is imported when it is first asked for, so that
`import videopainter` costs nothing.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
