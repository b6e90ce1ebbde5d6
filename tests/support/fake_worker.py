"""A worker without a model: `python -m support.fake_worker FD PARENT`.

Its job's device says what it does, one word after another; a word that ends in `?` only happens
while the file of that name is in the state directory.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys

from kedge.process.channel import Channel, ChannelClosed
from kedge.process.child import end_with_parent


def main() -> None:
    fd, parent_pid = map(int, sys.argv[1:3])
    end_with_parent(parent_pid)
    channel = Channel.inherited(fd)
    attached = []
    while True:
        try:
            message = channel.receive()
        except ChannelClosed:
            os._exit(0)
        if message.kind == "attach":
            attached.append(message.fds)
            continue
        job = pickle.loads(message.blob)
        for word in job.device.split():
            if not word.endswith("?") or (job.state_dir / word.rstrip("?")).exists():
                act(word.rstrip("?"), channel)


def act(word: str, channel: Channel) -> None:
    match word:
        case "loads":
            channel.send("loaded", {"measured_us": 7.5})
        case "fails":
            channel.send("failed", {"reason": "told to fail"})
            os._exit(1)
        case "refuses":
            channel.send("failed", {"reason": "told to refuse"})
        case "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hangs":
            signal.pause()
        case "forks":
            # As a model does that starts helpers: they inherit every descriptor.
            if os.fork() == 0:
                signal.pause()
        case "speaks":
            channel.send("nonsense", {}, b"x" * 10)
        case "stammers":
            channel._socket.send(b"\4")
            signal.pause()
        case _:
            raise ValueError(word)


if __name__ == "__main__":
    main()
