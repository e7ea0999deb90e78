"""A headless Chromium, driven over a pipe by its own protocol; no port and no driver."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
SECONDS = 120
"""For any answer: the machine may have much else to do."""


def find_browser() -> str:
    """Return the path of a Chromium; without one skip the test, and fail it where CI is set."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = f"no {', '.join(NAMES)}; as root 'make browser' installs one"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class Browser:
    """One page in a Chromium of its own, without network.

    Parameters
    ----------
    path
        Of the program.
    profile
        Empty folder for its files.
    size
        Of the window, width and height in pixels.
    """

    def __init__(self, path: str, profile: Path, size: tuple[int, int] = (1200, 1000)) -> None:
        flags = [
            *("--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu"),
            *("--disable-dev-shm-usage", "--disable-background-networking", "--no-sandbox"),
            f"--user-data-dir={profile}",
            f"--window-size={size[0]},{size[1]}",
            "--host-resolver-rules=MAP * ~NOTFOUND",
        ]
        # the protocol's commands come in by descriptor 3, answers and events go out by 4
        line = ["sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null', "sh", path, *flags]
        self._log = (profile / "browser.log").open("wb")
        self._process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
        )
        self._buffer, self._number = b"", 0
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": found["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer to a command; what the page says meanwhile goes to `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters, **self._session}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return dict(answer["result"])
            self.events.append(answer)

    def open(self, path: Path) -> None:
        """Show a file, and wait until it is loaded."""
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression; a promise is waited for."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def box(self, name: str) -> tuple[float, float, float, float]:
        """Scroll to an element; return its left, top, width and height in the window."""
        script = (
            f"(() => {{ const it = document.getElementById({json.dumps(name)});"
            " it.scrollIntoView({block: 'center'}); const at = it.getBoundingClientRect();"
            " return [at.left, at.top, at.width, at.height]; })()"
        )
        left, top, width, height = self.run(script)
        return left, top, width, height

    def click(self, name: str, share: float = 0.5) -> None:
        """Click on an element, at a share of its width."""
        left, top, width, height = self.box(name)
        at = {"x": left + share * width, "y": top + height / 2, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **at)

    def press(self, key: str) -> None:
        """Press and release a key, such as ``ArrowRight``."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key,
                windowsVirtualKeyCode={"ArrowLeft": 37, "ArrowRight": 39}[key],
            )  # fmt: skip

    def screenshot(self, path: Path) -> bytes:
        """Write what is seen as PNG, and return it."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        image = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        path.write_bytes(image)
        return image

    def complaints(self) -> list[Any]:
        """Return errors and warnings of the console, what was thrown, and what was refused."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Network.loadingFailed")
        said = [event["params"] for event in self.events if event.get("method") in kinds]
        console = (
            event["params"]
            for event in self.events
            if event.get("method") == "Runtime.consoleAPICalled"
        )
        return said + [entry for entry in console if entry["type"] in ("error", "warning")]

    def requests(self) -> list[str]:
        """Return the addresses that the page asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor, end = self._process.stdout.fileno(), time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
            data = os.read(descriptor, 1 << 20) if ready else b""
            assert data, f"no answer within {SECONDS} s: see {self._log.name}"
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(message))
