"""Chapters in a real JupyterLab on this machine, driven by Chromium as a reader's hands would do it."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

HOME, TOKEN = "127.0.0.1", "chapters"
SETTINGS = {  # no news and no updates asked for; cells out of sight stay in the page, so that tests find them
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}
FLAGS = [  # the last one: no name but this machine's can be looked up
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-component-update",
    "--disable-background-networking",
    "--no-first-run",
    f"--host-resolver-rules=MAP * ~NOTFOUND,EXCLUDE {HOME}",
]
BUSY = """() => {
    const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(e => e.textContent);
    const state = document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status;
    return state !== 'idle' || prompts.some(p => p.includes('*')) || !prompts.some(p => /[0-9]/.test(p));
}"""
STARTED = """() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
    .some(e => /[*0-9]/.test(e.textContent))"""
PRINTED = """cells => cells.map(
    cell => [...cell.querySelectorAll('.jp-OutputArea-output')].map(output => output.innerText).join('\\n').trim())"""
PICTURES = """output => JSON.stringify([
    [...output.querySelectorAll('img')].map(e => e.src), [...output.querySelectorAll('canvas')].map(e => e.toDataURL())
])"""


def missing() -> list[str]:
    """What this machine lacks for browser tests, in words for a skipped test."""
    lacking = [] if find_spec("playwright") else ["the Python package playwright"]
    return lacking if shutil.which("chromium") else [*lacking, "Chromium (/usr/bin/chromium)"]


@contextlib.contextmanager
def jupyter_lab(folder: Path, notebooks: Path):
    """Serve ``notebooks`` from a JupyterLab with its own settings; yield its address and its log file."""
    for name, value in SETTINGS.items():
        path = folder / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    options = ["--allow-root", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}"]
    options += [f"--ip={HOME}", f"--ServerApp.root_dir={notebooks}", "--LabApp.extension_manager=readonly"]
    with _serving(folder, "jupyterlab", options, "api") as served:
        yield served


@contextlib.contextmanager
def voila(folder: Path, notebook: Path):
    """Serve one notebook as a page without code; yield its address and the log file."""
    with _serving(folder, "voila", [str(notebook), f"--Voila.ip={HOME}"], "voila/static/voila.js") as served:
        yield served


@contextlib.contextmanager
def _serving(folder: Path, module: str, options: list[str], sign_of_life: str, patience: float = 180.0):
    with socket.socket() as free:
        free.bind((HOME, 0))
        port = free.getsockname()[1]
    own = ("CONFIG", "DATA", "RUNTIME")
    environment = {
        **os.environ,
        **{f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in own},
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
        "LKM_PROFILE": "smoke",
        "LKM_RUNS": str(folder / "runs"),
        "LKM_FIGURES": str(folder / "figures"),
    }
    environment.pop("MPLBACKEND", None)
    command = [sys.executable, "-m", module, *options, f"--port={port}", "--no-browser"]
    log = folder / "server.log"
    with log.open("w") as sink:
        server = subprocess.Popen(command, env=environment, stdout=sink, stderr=subprocess.STDOUT)
    try:
        address = f"http://{HOME}:{port}"
        end = time.monotonic() + patience
        while not _answers(f"{address}/{sign_of_life}"):
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{module} did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        yield address, log
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def leaves_this_machine(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme not in ("data", "blob", "about", "attachment") and parts.hostname != HOME


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def chromium():
    """A headless Chromium that can look up no name: all that it reaches is this machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Chapter:
    """One notebook open in JupyterLab; ``complaints`` and ``away`` gather console errors and requests elsewhere."""

    def __init__(self, browser, address: str, name: str, patience: float = 300.0):
        self.complaints, self.away, self.patience_ms = [], [], patience * 1000
        self.address = address
        self.page = browser.new_page(viewport={"width": 1400, "height": 1000})
        self.page.set_default_timeout(self.patience_ms)  # eight chapters on one page take long to lay out
        self.page.on("console", self._complain)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))
        self.page.on("websocket", lambda socket: self._note(socket.url))
        try:
            self._open(name, patience)
        except BaseException:
            self.page.close()  # or the tests of other chapters would wait for its connection to end
            raise
        self.page.set_default_timeout(30_000)

    def _open(self, name: str, patience: float) -> None:
        self.page.goto(f"{self.address}/lab/tree/{name}?token={TOKEN}&reset")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self._until(lambda kernel: kernel["connections"] and kernel["execution_state"] == "idle", patience)
        self.page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]")

    def _complain(self, message) -> None:
        """JupyterLab asks for a picture inside a notebook by its name before it puts the picture there itself."""
        of_picture = "ERR_UNKNOWN_URL_SCHEME" in message.text and message.location["url"].startswith("attachment:")
        if message.type == "error" and not of_picture:
            self.complaints.append(message.text)

    def _note(self, url: str) -> None:
        if leaves_this_machine(url):
            self.away.append(url)

    def _until(self, ready, patience: float = 60.0) -> None:
        """Until the notebook's kernel is as asked, by what the server says: the page shows idle too early."""
        end = time.monotonic() + patience
        while not (kernels := [s["kernel"] for s in json.loads(self._ask("GET", ""))]) or not all(map(ready, kernels)):
            if time.monotonic() > end:
                raise RuntimeError(f"the kernel did not get ready in {patience:.0f} s: {kernels}")
            time.sleep(0.2)

    def run_all(self) -> None:
        from playwright.sync_api import TimeoutError as NothingStarted

        for patience in (15_000, 15_000, 60_000):  # a click before the menu is ready has no effect
            self.page.click(".lm-MenuBar-itemLabel:text-is('Run')")
            self.page.click(".lm-Menu-itemLabel:text-is('Run All Cells')")
            try:
                self.until(STARTED, timeout=patience)
                break
            except NothingStarted:
                self.page.keyboard.press("Escape")
        self.wait()

    def wait(self) -> None:
        """Until no cell waits or runs; what widgets ask of the kernel afterwards shows in the indicator too."""
        self.until(f"!({BUSY})()", timeout=self.patience_ms)

    def until(self, condition: str, **how) -> None:
        """Until a script says yes; asked at every frame, as is the default, the page would take a core for itself."""
        self.page.wait_for_function(condition, polling=200, **how)

    def prompts(self) -> list[str]:
        return [text.strip() for text in self.page.locator(".jp-CodeCell .jp-InputPrompt").all_text_contents()]

    def printed(self) -> list[str]:
        """What stands below each code cell, in words."""
        return self.page.locator(".jp-Notebook .jp-CodeCell").evaluate_all(PRINTED)

    def kernel(self) -> str:
        """The id of the notebook's kernel, after which the file is called by which others connect to it."""
        (session,) = json.loads(self._ask("GET", ""))
        return session["kernel"]["id"]

    def errors(self) -> list[str]:
        """Tracebacks in any output, those inside widgets included; packages' warnings depend on the machine."""
        kind = "application/vnd.jupyter.error"
        return self.page.locator(f".jp-OutputArea-output[data-mime-type='{kind}']").all_text_contents()

    def widgets(self) -> list:
        """The outputs that hold a control."""
        found = ".jp-Cell-outputArea > .jp-OutputArea-child > .jp-OutputArea-output"
        return self.page.locator(found, has=self.page.locator(".jupyter-widgets.widget-inline-hbox")).all()

    def pictures(self, widget) -> str:
        """All pictures of a widget as one text, to be compared; what WebGL draws can only be photographed."""
        webgl = [c for c in widget.locator("canvas").all() if c.evaluate("c => c.getContext('2d') === null")]
        drawn = [canvas.screenshot().hex() for canvas in webgl]
        return widget.evaluate(PICTURES) + "".join(drawn)

    def settled(self, widget, patience: float = 10.0) -> str:
        """The widget's pictures once they have stopped changing: a figure is drawn again after its kernel is idle."""
        end, now = time.monotonic() + patience, self.pictures(widget)
        while time.monotonic() < end:
            self.page.wait_for_timeout(300)
            self.wait()
            before, now = now, self.pictures(widget)
            if now == before:
                return now
        raise RuntimeError(f"the pictures still change after {patience:.0f} s")

    def changed(self, widget, before: str, patience: float = 10.0) -> bool:
        """Whether the pictures become others than ``before``."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            now = self.pictures(widget)
            if now != before and now != "[[],[]]":  # an Output is empty for a moment between two pictures
                self.wait()
                return True
            self.page.wait_for_timeout(100)
        return False

    def press(self, slider) -> tuple[str, str]:
        """Move a slider one step; return its readout before and after."""
        readout, handle = slider.locator(".widget-readout"), slider.locator(".noUi-handle").first
        before = readout.inner_text()
        at_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
        handle.press("ArrowLeft" if at_end else "ArrowRight")
        return before, readout.inner_text()

    def close(self) -> None:
        """Close the page and shut its kernel down: each keeps its memory."""
        self.page.close()
        self._until(lambda kernel: not kernel["connections"])
        for session in json.loads(self._ask("GET", "")):
            self._ask("DELETE", f"/{session['id']}")

    def _ask(self, method: str, which: str) -> bytes:
        header = {"Authorization": f"token {TOKEN}"}
        request = urllib.request.Request(f"{self.address}/api/sessions{which}", headers=header, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()
