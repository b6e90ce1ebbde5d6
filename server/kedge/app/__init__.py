"""Where the parts are joined: the control process (`server`), the gateway and the workers."""
