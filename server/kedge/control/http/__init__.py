"""The HTTP process: the KServe v2 REST protocol and /metrics, translated to gRPC calls.

It runs beside the gateway (`python -m kedge.control.http`), so that no HTTP client and no JSON can
disturb the gateway's loop. It knows no model and keeps no state: the gateway decides everything.
"""
