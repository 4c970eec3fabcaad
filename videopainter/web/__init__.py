"""The page in the browser, and the REST interface that it stands on.

    videopainter web my.mp4 --open

`store` keeps projects on disk, `frames` makes pictures of frames, `worker` does the long work in a process of its own,
`server` is what listens, `static/` is the page.
"""
