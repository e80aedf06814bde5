"""A headless Chromium that a test drives with real clicks, keys and touches, over its debugging pipe."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Tab:
    """A page in the browser. Commands are those of the Chrome DevTools protocol."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.to_browser, self.from_browser = to_browser, from_browser
        self.number, self.unread, self.session = 0, b"", {}
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self.number += 1
        message = {"id": self.number, "method": method, "params": params, **self.session}
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while (answer := self.read()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def read(self) -> dict[str, Any]:
        while b"\0" not in self.unread:
            self.unread += os.read(self.from_browser, 2**20) or b"{}\0"
        message, _, self.unread = self.unread.partition(b"\0")
        return json.loads(message)

    def js(self, expression: str) -> Any:
        """The value of an expression in the page. A promise is awaited."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, expression: str, seconds: float = 60) -> Any:
        """The expression's value as soon as it is true."""
        end = time.monotonic() + seconds
        while not (found := self.js(expression)):
            assert time.monotonic() < end, f"not within {seconds} s: {expression}"
            time.sleep(0.05)
        return found

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)

    def window(self, width: int, height: int, phone: bool = False, scheme: str = "light") -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def middle(self, selector: str) -> tuple[float, float]:
        """Scroll an element into view, and return its centre."""
        box = f"const box = document.querySelector({json.dumps(selector)})"
        return self.js(
            f"{{ {box}; box.scrollIntoView({{ block: 'center' }}); const at = box.getBoundingClientRect();"
            " [at.x + at.width / 2, at.y + at.height / 2] }"
        )

    def click(self, selector: str) -> None:
        x, y = self.middle(selector)
        self.drag([(x, y)])

    def drag(self, places: list[tuple[float, float]]) -> None:
        """Press the mouse at the first place, drag it over the others, release at the last."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(places) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*places, places[-1]], strict=True):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def key(self, key: str) -> None:
        text = {"text": key} if len(key) == 1 else {}
        code = {" ": 32, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}[key]
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    def choose(self, selector: str, value: object) -> None:
        """Set a select or an input, and fire the event that a user would."""
        self.js(
            f"{{ const field = document.querySelector({json.dumps(selector)}); field.value = {json.dumps(value)};"
            " field.dispatchEvent(new Event('input', { bubbles: true })) }"
        )

    def screenshot(self, path: Path, whole: bool = True) -> None:
        found = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))

    def mistakes(self) -> list[Any]:
        """Errors of the page's scripts and its policy, and failed requests."""
        self.js("0")
        told = [(event["method"], event["params"]) for event in self.events]
        logged = [params["entry"] for method, params in told if method == "Log.entryAdded"]
        thrown = [params for method, params in told if method == "Runtime.exceptionThrown"]
        return thrown + [entry for entry in logged if entry["level"] == "error"]

    def requests(self) -> list[str]:
        """The URLs that the page has requested."""
        self.js("0")
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]


@contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """A tab of a new browser, closed with the block."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # The browser reads its file 3 and writes its file 4.
    redirect = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
    options = [f"--user-data-dir={profile}", "--no-first-run", "--hide-scrollbars", "about:blank"]
    process = subprocess.Popen(
        ["bash", "-c", redirect, *command, *options],
        pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in (theirs_in, theirs_out):
        os.close(end)
    try:
        yield Tab(ours_out, ours_in)
    finally:
        os.close(ours_out)  # this ends the browser
        os.close(ours_in)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
