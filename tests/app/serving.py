"""What the tests of the page and of the endpoint share: a page of words, and a server in its own thread."""

import contextlib
import io
import socket
import threading

import numpy as np
import uvicorn

LINES = ("the", "source", "code")


def picture(*lines, seed=0):
    """A page of single lines as the nano model knows them."""
    from data_tools.drawing.fonts import find_fonts
    from data_tools.engines.lines import render_page

    font = find_fonts(["Lato-Regular"])[0]
    return render_page(lines, font, 20, 128, np.random.default_rng(seed)).image


def as_file(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@contextlib.contextmanager
def listening(config):
    """The port at which uvicorn answers meanwhile."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
