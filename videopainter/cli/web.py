"""`videopainter web`: the page in the browser."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from videopainter.cli import errors
from videopainter.cli.errors import say
from videopainter.cli.parser import Parser

ENVIRONMENT = "VIDEOPAINTER_WORKSPACE"


def build_parser(prog: str = "videopainter web") -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="A page in the browser: click on the video, see the mask, correct it, inpaint, compare, keep.",
    )
    parser.add_argument("file", nargs="?", help="a video to open; it stays where it is")
    parser.add_argument(
        "--workspace",
        metavar="DIR",
        default=os.environ.get(ENVIRONMENT) or str(Path.home() / ".videopainter"),
        help=f"where projects and results are kept (default: ${ENVIRONMENT}, or ~/.videopainter)",
    )
    parser.add_argument("--port", type=int, default=8765, metavar="N", help="0: a free one (default: 8765)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="an address of this machine by which others may come too, with the token that is printed "
        "(default: 127.0.0.1, this machine alone)",
    )
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    parser.add_argument(
        "--max_upload", type=float, default=64, metavar="GIB", help="largest file that is taken (default: 64)"
    )
    return parser


def main(argv: list[str] | None = None, prog: str = "videopainter web") -> int:
    """Returns the exit status; see `errors`."""
    args = build_parser(prog).parse_args(argv)
    return errors.run(lambda: _serve(args), prog, vars(args), stopped="Stopped; projects and jobs are kept.")


def _serve(args: argparse.Namespace) -> int:
    if lacking := [package for package in ("fastapi", "uvicorn") if find_spec(package) is None]:
        raise ValueError(f"The page needs {' and '.join(lacking)}; pip install 'videopainter[web]' has them.")
    import uvicorn

    from videopainter.web.memory import freeze, return_large_buffers
    from videopainter.web.security import is_loopback
    from videopainter.web.server import create_app

    return_large_buffers()
    if args.file is not None and not Path(args.file).exists():
        raise FileNotFoundError(2, "No such file or directory", args.file)
    local = is_loopback(args.host)
    token = None if local else secrets.token_urlsafe(24)
    listening = _listening(args.host, args.port)
    port = listening.getsockname()[1]
    names = {"127.0.0.1", "localhost", "::1"} if local else {args.host, "127.0.0.1", "localhost"}
    if args.host in ("0.0.0.0", "::"):  # every address of this machine
        names |= {socket.gethostname(), socket.getfqdn(), *_addresses()}
    app = create_app(args.workspace, names, token, round(args.max_upload * 2**30))
    freeze()
    shown = f"[{args.host}]" if ":" in args.host else args.host
    if args.host in ("0.0.0.0", "::"):
        shown = next(iter(_addresses()), "localhost")
    place = f"http://{shown}:{port}/"
    query = "" if token is None else f"?token={token}"
    if args.file is not None:
        path = Path(args.file).resolve()
        query += f"#project={app.state.open(path.name, path)['id']}"
    print(f"VideoPainter is at {place}{query}", flush=True)
    print("Ctrl-C ends it; projects are kept in", Path(args.workspace).resolve(), flush=True)
    if args.open:
        import webbrowser

        webbrowser.open(f"{place}{query}")
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.run(sockets=[listening])
    return errors.OK


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)  # who comes before the server is ready waits
    except (OSError, OverflowError) as error:
        listening.close()
        why = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"{host} port {port} cannot be listened on: {why}; `port` 0 takes a free one."
        ) from None
    return listening


def _addresses() -> set[str]:
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    except OSError:
        say("The addresses of this machine cannot be found; call it by its name.")
        return set()


if __name__ == "__main__":
    errors.door(lambda: main(sys.argv[1:]))
