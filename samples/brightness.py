"""An operator of your own: say how bright the picture is, and when it goes dark.

A function with a decorator is an operator. Inputs are its arguments, parameters are keyword-only arguments with a
default, and its docstring is its documentation:

    llamapipe ops show acme/brightness@v1 --ops samples/brightness.py
    llamapipe run samples/brightness.yaml --ops samples/brightness.py -i sample:bikes -o out/brightness
"""

from llamapipe.data import Event, Events, Image
from llamapipe.operator import operator


@operator("acme/brightness@v1", inputs={"frames": "frames"}, outputs={"events": "events"})
def brightness(frames: Image, *, dark: float = 50.0) -> Events:
    """Say how bright a picture is (0 black, 255 white), and that it is dark below `dark`."""
    level = float(frames.bgr[::4, ::4].mean())  # every fourth pixel will do
    events = [Event("brightness", value=round(level, 1))]
    if level < dark:
        events.append(Event("dark", value=round(level, 1)))
    return Events(events)
