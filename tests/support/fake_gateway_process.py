"""A gateway that serves nothing: `python -m support.fake_gateway_process CHANNEL LOG PARENT`.

It writes the kind and key of every message that it takes to the file `taken` of the state
directory, a line each. Files there tell it what to do: `hold`: not to listen while it is there;
`die_on_KIND`: to end when such a message comes; `refuse_KIND`: to answer it with an error;
`call`: to make a call and report a lost worker after every message.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from pathlib import Path

from kedge.process.channel import Channel, ChannelClosed
from kedge.process.child import end_with_parent


def main() -> None:
    channel_fd, _, parent_pid = map(int, sys.argv[1:4])
    end_with_parent(parent_pid)
    channel = Channel.inherited(channel_fd)
    folder: Path = pickle.loads(channel.receive().blob).settings.state_dir
    while (folder / "hold").exists():
        time.sleep(0.01)
    channel.send("listening", {"port": 7, "local": ["unix:x", f"secret {os.getpid()}"]})
    with (folder / "taken").open("a") as taken:
        while True:
            message = channel.receive()
            print(message.kind, message.fields.get("key", ""), file=taken, flush=True)
            if (folder / f"die_on_{message.kind}").exists():
                os._exit(3)
            error = "told to refuse" if (folder / f"refuse_{message.kind}").exists() else None
            if "serial" in message.fields:
                channel.send("done", {"serial": message.fields["serial"], "error": error})
            if (folder / "call").exists():
                channel.send("call", {"call": 1, "method": 0, "counters": {}})
                channel.send("lost", {"worker": 1, "hangs": False})
            if message.kind == "stop":
                channel.send("drained", {"answered": True})


if __name__ == "__main__":
    try:
        main()
    except ChannelClosed:
        os._exit(0)
